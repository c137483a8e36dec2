from __future__ import annotations

from pathlib import Path

from lineup.settings import params, row_descriptions
from tests.support import project, small_project
from tests.support.project import ROOT


def test_each_row_of_the_demo_is_described() -> None:
    shown = row_descriptions.descriptions(params.load(ROOT / "params.yaml"))
    network = "mobilenet_v2 of torchvision at"
    assert shown["mobilenet_v2"] == f"{network} 128 px, pretrained weights"
    assert shown["mobilenet_v2_bfloat16"] == f"{network} 128 px, pretrained weights, bfloat16"
    assert shown["arcface"] == f"{network} 96 px, pretrained weights, then trained with arcface"
    assert shown["adapter_label_share_0_25"].endswith("trained with adapter on 25% of the labels")
    assert shown["raw_pixels_l2"].endswith("pixels normalised by the row's own mean and std, L2 distance")
    assert shown["arcface_expanded"] == "query_expansion of arcface"
    assert shown["arcface_and_finetuned"] == "reciprocal_rank_fusion of arcface and finetuned"


def test_random_weights_and_an_approximate_index_are_said(tmp_path: Path) -> None:
    settings = small_project.params()
    (model,) = settings["models"].values()
    model["encoder"] |= {"weights": "none", "allow_random": True}
    model["search"] = {"metric": "cosine", "index": "hnsw"}
    project.write_params(tmp_path, settings)
    (line,) = row_descriptions.descriptions(params.load(tmp_path / "params.yaml")).values()
    assert line.endswith(", random weights, then trained with arcface, searched by hnsw")
