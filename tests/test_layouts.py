"""Layouts that people know by name: each is read from a tiny tree in exactly that layout."""

from __future__ import annotations

import os
import pickle
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lineup.errors import UserError
from lineup.evaluation import metrics
from lineup.layouts import (
    cub200,
    deepfashion_inshop,
    detection,
    huggingface_imagefolder,
    market1501,
    msmt17,
    restricted_pickle,
    revisited,
    stanford_online_products,
)
from lineup.layouts.layout import Judgement, Layout, Role, Source, SourcePhoto
from lineup.photos import photo_register, raw_folder
from lineup.relevance.relevance import Relevance

LAYOUTS: dict[str, Layout] = {
    "market1501": market1501.LAYOUT,
    "msmt17": msmt17.LAYOUT,
    "stanford_online_products": stanford_online_products.LAYOUT,
    "cub200": cub200.LAYOUT,
    "deepfashion_inshop": deepfashion_inshop.LAYOUT,
    "revisited": revisited.LAYOUT,
    "huggingface_imagefolder": huggingface_imagefolder.LAYOUT,
}
TEST: tuple[Role, ...] = ("query", "gallery")


def tree(root: Path, *names: str, texts: Mapping[str, str] | None = None) -> Path:
    """A folder with empty photos and with text files."""
    for name, text in {**dict.fromkeys(names, ""), **(texts or {})}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def read(layout: Layout, source: Path) -> Source:
    assert layout.matches(source)
    assert [name for name, other in LAYOUTS.items() if other is not layout and other.matches(source)] == []
    return layout.read(source)


def by_name(source: Source) -> dict[str, tuple[str | None, tuple[Role, ...]]]:
    photos = {photo.name: (photo.label, photo.roles) for photo in source.photos}
    assert len(photos) == len(source.photos)
    return photos


def attributes(source: Source) -> dict[str, Mapping[str, str]]:
    return {photo.name: photo.attributes for photo in source.photos}


def refused(layout: Layout, source: Path) -> str:
    assert layout.matches(source)
    with pytest.raises(UserError) as error:
        layout.read(source)
    sentence = str(error.value)
    assert "\n" not in sentence
    return sentence.replace(str(source), "SRC")


def relevance_of(source: Source) -> tuple[Relevance, list[str], list[str]]:
    """What Lineup makes of the photos and of qrels.csv, and the names of queries and gallery photos."""
    queries = sorted(photo.name for photo in source.photos if "query" in photo.roles)
    gallery = sorted(photo.name for photo in source.photos if "gallery" in photo.roles)
    judged = [
        (queries.index(line.query), gallery.index(line.gallery), line.relevance)
        for line in source.judgements["qrels.csv"]
    ]
    labels = {photo.name: photo.label for photo in source.photos}
    codes = {label: code for code, label in enumerate(sorted(filter(None, {*labels.values()})))}
    relevance = Relevance(
        source="qrels",
        # In data/raw, the queries and the gallery are other files.
        query_ids=np.array([f"q {name}" for name in queries]),
        gallery_ids=np.array([f"g {name}".encode() for name in gallery]),
        query_labels=np.array([codes.get(labels[name] or "", -1) for name in queries]),
        gallery_labels=np.array([codes.get(labels[name] or "", -1) for name in gallery]),
        judged=np.array(judged, np.int64).reshape(-1, 3),
    )
    return relevance, queries, gallery


def scored(
    relevance: Relevance, rankings: Sequence[Sequence[int]], num_gallery: int
) -> dict[str, np.ndarray]:
    """Lineup's metrics of complete rankings, from which it removes what `excluded` names."""
    excluded = {tuple(pair) for pair in relevance.excluded().tolist()}
    positions = np.full((len(rankings), num_gallery), -1)
    for query, ranking in enumerate(rankings):
        kept = [photo for photo in ranking if (query, photo) not in excluded]
        positions[query, : len(kept)] = kept
    return metrics.per_query(
        relevance.is_relevant(positions), relevance.num_relevant(), [1, 5, 10, num_gallery]
    )


# Market-1501 and MSMT17


@pytest.fixture
def market(tmp_path: Path) -> Path:
    return tree(
        tmp_path / "Market-1501-v15.09.15",
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "bounding_box_train/0002_c2s1_000301_01.jpg",
        "bounding_box_train/0007_c3s3_077419_03.jpg",
        "bounding_box_train/Thumbs.db",
        "query/0001_c1s1_001051_00.jpg",
        "query/0001_c2s1_000301_00.jpg",
        "query/0003_c4s6_015641_00.jpg",
        "bounding_box_test/-1_c1s1_000401_03.jpg",
        "bounding_box_test/0000_c1s1_000151_01.jpg",
        "bounding_box_test/0001_c1s1_001051_03.jpg",
        "bounding_box_test/0001_c2s1_000301_04.jpg",
        "bounding_box_test/0001_c3s1_000551_00.jpg",
        "bounding_box_test/0003_c4s6_015641_03.jpg",
        "gt_bbox/0001_c1s1_001051_00.jpg",
        "readme.txt",
    )


def test_market1501_by_hand(market: Path) -> None:
    source = read(market1501.LAYOUT, market)
    assert by_name(source) == {
        "bounding_box_train/0002_c1s1_000451_03.jpg": ("0002", ("train",)),
        "bounding_box_train/0002_c2s1_000301_01.jpg": ("0002", ("train",)),
        "bounding_box_train/0007_c3s3_077419_03.jpg": ("0007", ("train",)),
        "query/0001_c1s1_001051_00.jpg": ("0001", ("query",)),
        "query/0001_c2s1_000301_00.jpg": ("0001", ("query",)),
        "query/0003_c4s6_015641_00.jpg": ("0003", ("query",)),
        "bounding_box_test/0000_c1s1_000151_01.jpg": (None, ("gallery",)),
        "bounding_box_test/0001_c1s1_001051_03.jpg": ("0001", ("gallery",)),
        "bounding_box_test/0001_c2s1_000301_04.jpg": ("0001", ("gallery",)),
        "bounding_box_test/0001_c3s1_000551_00.jpg": ("0001", ("gallery",)),
        "bounding_box_test/0003_c4s6_015641_03.jpg": ("0003", ("gallery",)),
    }
    first, second, third = (name for name in by_name(source) if name.startswith("query/"))
    assert source.judgements == {
        "qrels.csv": [
            Judgement(first, "bounding_box_test/0001_c1s1_001051_03.jpg", -1),
            Judgement(first, "bounding_box_test/0001_c2s1_000301_04.jpg", 1),
            Judgement(first, "bounding_box_test/0001_c3s1_000551_00.jpg", 1),
            Judgement(second, "bounding_box_test/0001_c1s1_001051_03.jpg", 1),
            Judgement(second, "bounding_box_test/0001_c2s1_000301_04.jpg", -1),
            Judgement(second, "bounding_box_test/0001_c3s1_000551_00.jpg", 1),
            Judgement(third, "bounding_box_test/0003_c4s6_015641_03.jpg", -1),
        ]
    }
    assert attributes(source)[first] == {"camera_id": "1"}
    assert source.summary == (
        "Market-1501: 3 training photos of 2 people; 3 queries and 5 gallery photos; a photo of the query's "
        "person from the query's camera is junk; 1 distractor (0000) without a label; 1 junk photo (-1) left out"
    )
    assert {"bounding_box_test/-1_c1s1_000401_03.jpg", "gt_bbox/0001_c1s1_001051_00.jpg"} <= {*source.skipped}


def market_rule(
    queries: Sequence[tuple[int, int]], gallery: Sequence[tuple[int, int]], rankings: Sequence[Sequence[int]]
) -> list[tuple[float, float]]:
    """(average precision, rank-1 accuracy) of each query that counts, in the order of the queries.

    A naive loop over pairs of (identity, camera): photos of identity -1, and photos of the query's identity
    and camera, are taken out of the ranking; average precision is the mean of the precision at each hit.
    """
    values = []
    for (identity, camera), ranking in zip(queries, rankings, strict=True):
        hits = []
        for photo in ranking:
            if gallery[photo][0] == -1 or gallery[photo] == (identity, camera):
                continue
            hits.append(gallery[photo][0] == identity)
        if any(hits):
            precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
            values.append((sum(precisions) / len(precisions), float(hits[0])))
    return values


def test_market1501_scores_are_those_of_its_rule(tmp_path: Path) -> None:
    """Junk photos leave the gallery here, and the ranking in the rule: the scores agree."""
    chance = random.Random(5)
    people, cameras = [-1, 0, 1, 2, 3, 4], [1, 2, 3]
    gallery = [(chance.choice(people), chance.choice(cameras)) for _ in range(60)]
    queries = [(identity, camera) for identity in (1, 2, 3, 4) for camera in cameras]
    names = {}
    for folder, photos in (("query", queries), ("bounding_box_test", gallery)):
        for number, (identity, camera) in enumerate(photos):
            shown = "-1" if identity == -1 else f"{identity:04}"
            names[folder, number] = f"{folder}/{shown}_c{camera}s1_{number:06}_00.jpg"
    source = read(market1501.LAYOUT, tree(tmp_path / "market", *names.values()))
    relevance, query_names, gallery_names = relevance_of(source)

    rankings = [chance.sample(range(len(gallery)), len(gallery)) for _ in queries]
    expected = market_rule(queries, gallery, rankings)
    order = [query_names.index(names["query", number]) for number in range(len(queries))]
    positions = {name: position for position, name in enumerate(gallery_names)}
    in_lineup = [[] for _ in queries]
    for number, ranking in enumerate(rankings):
        photos = [names["bounding_box_test", photo] for photo in ranking]
        in_lineup[order[number]] = [positions[name] for name in photos if name in positions]
    values = scored(relevance, in_lineup, len(gallery_names))
    average = values[f"map_{len(gallery_names)}"][order]
    counts = ~np.isnan(average)
    np.testing.assert_allclose(average[counts], [value for value, _ in expected])
    np.testing.assert_array_equal(values["top_1"][order][counts], [first for _, first in expected])


def test_market1501_needs_its_folders_and_file_names(market: Path) -> None:
    odd = market / "query/portrait.jpg"
    odd.touch()
    assert refused(market1501.LAYOUT, market).startswith(
        "SRC/query/portrait.jpg: is not named as in Market-1501"
    )
    odd.unlink()
    for photo in (market / "query").iterdir():
        photo.unlink()
    (market / "query").rmdir()
    assert refused(market1501.LAYOUT, market).startswith(
        "SRC/query: does not exist, and Market-1501 needs it"
    )


def test_a_data_set_may_lie_in_a_folder_of_the_source(market: Path) -> None:
    names = by_name(read(market1501.LAYOUT, market.parent))
    assert all(name.startswith("Market-1501-v15.09.15/") for name in names) and len(names) == 11


def test_market1501_without_training_photos(tmp_path: Path) -> None:
    root = tree(tmp_path / "m", "query/0001_c1_f0044158.jpg", "bounding_box_test/0001_c2_f0044158.jpg")
    source = read(market1501.LAYOUT, root)
    assert [line.relevance for line in source.judgements["qrels.csv"]] == [1]


MSMT_LISTS = {
    "list_train.txt": "0000/0000_000_01_0303morning_0008_0.jpg 0\n0000/0000_001_05_0303noon_0009_0_ex.jpg 0\n",
    "list_val.txt": "0000/0000_002_05_0303noon_0010_0.jpg 0\n",
    "list_query.txt": "0000/0000_000_04_0302morning_0071_0.jpg 0\n",
    "list_gallery.txt": "0000/0000_003_04_0302morning_0072_1.jpg 0\n0000/0000_004_11_0302noon_0073_1.jpg 0\n",
}


def msmt_tree(root: Path, train: str, test: str) -> Path:
    folders = {
        "list_train.txt": train,
        "list_val.txt": train,
        "list_query.txt": test,
        "list_gallery.txt": test,
    }
    names = [
        f"{folders[name]}/{line.split()[0]}"
        for name, text in MSMT_LISTS.items()
        for line in text.splitlines()
    ]
    return tree(root, *names, texts=MSMT_LISTS)


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_msmt17_with_its_lists(tmp_path: Path, train: str, test: str) -> None:
    source = read(msmt17.LAYOUT, msmt_tree(tmp_path / "MSMT17", train, test))
    query = f"{test}/0000/0000_000_04_0302morning_0071_0.jpg"
    same_camera = f"{test}/0000/0000_003_04_0302morning_0072_1.jpg"
    other_camera = f"{test}/0000/0000_004_11_0302noon_0073_1.jpg"
    assert by_name(source) == {
        f"{train}/0000/0000_000_01_0303morning_0008_0.jpg": ("0000", ("train",)),
        f"{train}/0000/0000_001_05_0303noon_0009_0_ex.jpg": ("0000", ("train",)),
        query: ("test_0000", ("query",)),
        same_camera: ("test_0000", ("gallery",)),
        other_camera: ("test_0000", ("gallery",)),
    }
    assert source.judgements["qrels.csv"] == [
        Judgement(query, same_camera, -1),
        Judgement(query, other_camera, 1),
    ]
    assert attributes(source)[other_camera] == {"camera_id": "11"}
    assert [name for name in source.skipped if name.endswith(".jpg")] == [
        f"{train}/0000/0000_002_05_0303noon_0010_0.jpg"
    ]


def test_msmt17_in_the_folders_of_market1501(tmp_path: Path) -> None:
    """0000 is a person, and the same number in training is another one."""
    root = tree(
        tmp_path / "MSMT17_V1",
        "bounding_box_train/0000_c1_0001.jpg",
        "query/0000_c11_0015.jpg",
        "bounding_box_test/0000_c11_0016.jpg",
        "bounding_box_test/0000_c9_0025.jpg",
    )
    for source in (root, root.parent):
        content = read(msmt17.LAYOUT, source)
        assert [photo.label for photo in content.photos] == ["0000", "test_0000", "test_0000", "test_0000"]
        assert [line.relevance for line in content.judgements["qrels.csv"]] == [-1, 1]


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        (
            "list_query.txt",
            "0000/0000.jpg 0\n",
            "SRC/list_query.txt: line 1: must hold a photo whose name has its camera,",
        ),
        ("list_query.txt", "a b c\n", "SRC/list_query.txt: line 1: has 3 values, not 2"),
        (
            "list_gallery.txt",
            "0000/0000_009_01_x.jpg 0\n",
            "SRC/list_gallery.txt: 1 photo of 1 does not exist: 'test/",
        ),
        ("list_gallery.txt", None, "SRC/list_gallery.txt: does not exist, and MSMT17 needs it"),
    ],
)
def test_faults_of_msmt17(tmp_path: Path, name: str, text: str | None, fault: str) -> None:
    root = msmt_tree(tmp_path / "MSMT17", "train", "test")
    (root / name).unlink() if text is None else (root / name).write_text(text)
    assert refused(msmt17.LAYOUT, root).startswith(fault)


# Stanford Online Products

SOP_HEADER = "image_id class_id super_class_id path\n"


@pytest.fixture
def products(tmp_path: Path) -> Path:
    return tree(
        tmp_path / "Stanford_Online_Products",
        "bicycle_final/111085122871_0.JPG",
        "bicycle_final/111085122871_1.JPG",
        "cabinet_final/261594000000_0.JPG",
        "cabinet_final/261594000000_1.JPG",
        "cabinet_final/not_listed.JPG",
        texts={
            "Ebay_train.txt": f"{SOP_HEADER}1 1 1 bicycle_final/111085122871_0.JPG\n2 1 1 bicycle_final/111085122871_1.JPG\n",
            "Ebay_test.txt": f"{SOP_HEADER}59552 11319 2 cabinet_final/261594000000_0.JPG\n59553 11319 2 cabinet_final/261594000000_1.JPG\n",
            "Ebay_info.txt": SOP_HEADER,
        },
    )


def test_stanford_online_products_by_hand(products: Path) -> None:
    source = read(stanford_online_products.LAYOUT, products)
    assert by_name(source) == {
        "bicycle_final/111085122871_0.JPG": ("1", ("train",)),
        "bicycle_final/111085122871_1.JPG": ("1", ("train",)),
        "cabinet_final/261594000000_0.JPG": ("11319", TEST),
        "cabinet_final/261594000000_1.JPG": ("11319", TEST),
    }
    assert source.judgements == {} and source.skipped == ["cabinet_final/not_listed.JPG"]
    assert attributes(source)["bicycle_final/111085122871_0.JPG"] == {"super_class": "bicycle"}
    assert source.summary == (
        "Stanford Online Products: 2 training photos of 1 product and 2 test photos of 1 product; "
        "every test photo is a query and a gallery photo"
    )


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("Ebay_test.txt", None, "SRC/Ebay_test.txt: does not exist, and Stanford Online Products needs it"),
        ("Ebay_test.txt", "", "SRC/Ebay_test.txt: line 1: is ''; it must be the header 'image_id class_id"),
        (
            "Ebay_test.txt",
            f"{SOP_HEADER}1 2 3\n",
            "SRC/Ebay_test.txt: line 2: has 3 values, not 4; each line holds",
        ),
        (
            "Ebay_test.txt",
            SOP_HEADER + "".join(f"{n} 1 1 lamp_final/{n}.JPG\n" for n in range(5)),
            "SRC/Ebay_test.txt: 5 photos of 5 do not exist: 'lamp_final/0.JPG', 'lamp_final/1.JPG', 'lamp_final/2.JPG', …",
        ),
        (
            "Ebay_test.txt",
            f"{SOP_HEADER}1 1 1 bicycle_final/111085122871_0.JPG\n",
            "SRC: names 'bicycle_final/111085122871_0.JPG' twice",
        ),
    ],
)
def test_faults_of_stanford_online_products(products: Path, name: str, text: str | None, fault: str) -> None:
    (products / name).unlink() if text is None else (products / name).write_text(text)
    assert refused(stanford_online_products.LAYOUT, products).startswith(fault)


# CUB-200

BIRDS = {
    1: "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg",
    2: "100.Brown_Pelican/Brown_Pelican_0001_94001.jpg",
    3: "101.White_Pelican/White_Pelican_0001_96422.jpg",
    4: "200.Common_Yellowthroat/Common_Yellowthroat_0003_190521.jpg",
}
CUB_TABLES = {
    "images.txt": "".join(f"{number} {name}\n" for number, name in BIRDS.items()),
    "image_class_labels.txt": "1 1\n2 100\n3 101\n4 200\n",
    "classes.txt": "".join(f"{int(name[:3])} {name.partition('/')[0]}\n" for name in BIRDS.values()),
    "train_test_split.txt": "1 0\n2 1\n3 0\n4 1\n",
}


@pytest.mark.parametrize("form", ["tables", "images", "inside"])
def test_cub200_by_hand(tmp_path: Path, form: str) -> None:
    root = tmp_path / "CUB_200_2011"
    texts = CUB_TABLES if form == "tables" else {}
    prefix = "" if form == "inside" else "images/"
    source = read(cub200.LAYOUT, tree(root, *(prefix + name for name in BIRDS.values()), texts=texts))
    assert by_name(source) == {
        prefix + BIRDS[1]: ("001.Black_footed_Albatross", ("train",)),
        prefix + BIRDS[2]: ("100.Brown_Pelican", ("train",)),
        prefix + BIRDS[3]: ("101.White_Pelican", TEST),
        prefix + BIRDS[4]: ("200.Common_Yellowthroat", TEST),
    }
    assert source.summary.startswith(
        "CUB-200-2011: 2 training photos of 2 classes and 2 test photos of 2 classes;"
    )


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("classes.txt", None, "SRC/classes.txt: does not exist, and CUB-200-2011 needs it"),
        ("images.txt", None, "SRC/images.txt: does not exist, and CUB-200-2011 needs it"),
        (
            "image_class_labels.txt",
            "1 1\n2 100\n3 101\n",
            "SRC/image_class_labels.txt: has no line for image 4",
        ),
        (
            "image_class_labels.txt",
            "1 1\n1 2\n",
            "SRC/image_class_labels.txt: line 2: image_id 1 occurs twice",
        ),
        ("classes.txt", "1 001.Black_footed_Albatross\n", "SRC/classes.txt: has no line for class 100"),
        ("images.txt", f"1 {BIRDS[1]}\n", "SRC/images: has no class above 100"),
        ("images.txt", "1 no.jpg\n", "SRC/images.txt: 1 photo of 1 does not exist: 'images/no.jpg'"),
        ("images.txt", "1\n", "SRC/images.txt: line 1: has 1 values, not 2"),
    ],
)
def test_faults_of_cub200(tmp_path: Path, name: str, text: str | None, fault: str) -> None:
    root = tree(tmp_path / "cub", *(f"images/{bird}" for bird in BIRDS.values()), texts=CUB_TABLES)
    (root / name).unlink() if text is None else (root / name).write_text(text)
    assert refused(cub200.LAYOUT, root).startswith(fault)


def test_a_few_classes_of_cub200_are_folders_of_labels(tmp_path: Path) -> None:
    root = tree(tmp_path / "birds", BIRDS[1], BIRDS[2])
    assert not cub200.LAYOUT.matches(root)
    nabirds = tree(tmp_path / "nabirds", "images/0295/1.jpg", texts=CUB_TABLES)
    assert not cub200.LAYOUT.matches(nabirds)


# DeepFashion In-shop

INSHOP = (
    "4\nimage_name item_id evaluation_status\n"
    "img/WOMEN/Dresses/id_00000002/02_1_front.jpg                id_00000002 train\n"
    "img/WOMEN/Blouses_Shirts/id_00000001/02_1_front.jpg         id_00000001 query\n"
    "img/WOMEN/Blouses_Shirts/id_00000001/02_2_side.jpg          id_00000001 gallery\n"
    "img/MEN/Denim/id_00000080/01_1_front.jpg                    id_00000080 gallery\n"
)


def inshop_tree(root: Path, list_name: str, photos: str, text: str = INSHOP) -> Path:
    names = [line.split()[0].removeprefix("img/") for line in INSHOP.splitlines()[2:]]
    return tree(root, *(photos + name for name in names), texts={list_name: text})


@pytest.mark.parametrize("photos", ["Img/img/", "img/", "Img/"])
@pytest.mark.parametrize("list_name", ["Eval/list_eval_partition.txt", "list_eval_partition.txt"])
def test_deepfashion_inshop_by_hand(tmp_path: Path, list_name: str, photos: str) -> None:
    source = read(deepfashion_inshop.LAYOUT, inshop_tree(tmp_path / "In-shop", list_name, photos))
    assert by_name(source) == {
        f"{photos}WOMEN/Dresses/id_00000002/02_1_front.jpg": ("id_00000002", ("train",)),
        f"{photos}WOMEN/Blouses_Shirts/id_00000001/02_1_front.jpg": ("id_00000001", ("query",)),
        f"{photos}WOMEN/Blouses_Shirts/id_00000001/02_2_side.jpg": ("id_00000001", ("gallery",)),
        f"{photos}MEN/Denim/id_00000080/01_1_front.jpg": ("id_00000080", ("gallery",)),
    }
    assert attributes(source)[f"{photos}MEN/Denim/id_00000080/01_1_front.jpg"] == {"category": "MEN/Denim"}
    assert source.summary == "DeepFashion In-shop: 3 items, 1 training photo, 1 query and 2 gallery photos"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (INSHOP.replace("4\n", "52712\n", 1), "LIST: line 1: says 52,712 photos, and 4 follow"),
        (
            INSHOP.replace(" gallery", " galery"),
            "LIST: line 5: has the status 'galery'; did you mean 'gallery'?",
        ),
        (INSHOP.replace(" train", ""), "LIST: line 3: has 2 values, not 3"),
        (INSHOP.partition("\n")[2], "LIST: does not begin with the number of photos"),
        (
            INSHOP.replace("02_2_side", "02_3_back"),
            "LIST: 1 photo of 4 does not exist: 'Img/img/WOMEN/Blouses",
        ),
    ],
)
def test_faults_of_deepfashion_inshop(tmp_path: Path, text: str, fault: str) -> None:
    root = inshop_tree(tmp_path / "inshop", "Eval/list_eval_partition.txt", "Img/img/", text)
    assert (
        refused(deepfashion_inshop.LAYOUT, root)
        .replace("SRC/Eval/list_eval_partition.txt", "LIST")
        .startswith(fault)
    )


def test_celeba_has_a_list_of_the_same_name(tmp_path: Path) -> None:
    root = tree(tmp_path / "celeba", "img/000001.jpg", texts={"list_eval_partition.txt": "000001.jpg 0\n"})
    assert not deepfashion_inshop.LAYOUT.matches(root)


# Revisited Oxford and Paris


def revisited_tree(root: Path, content: object, name: str = "gnd_roxford5k.pkl", protocol: int = 4) -> Path:
    photos = [f"jpg/{photo}.jpg" for photo in (*GALLERY, *QUERIES, "not_listed")]
    tree(root, *photos)
    (root / name).write_bytes(pickle.dumps(content, protocol))
    return root


GALLERY = [f"oxford_{number:06}" for number in range(8)]
QUERIES = ["all_souls_000013", "radcliffe_camera_000519"]


def truth(**changes: Any) -> dict[str, Any]:
    return {"bbx": [136.5, 34.1, 648.5, 955.7], "easy": [0, 1], "hard": [2], "junk": [3, 4], **changes}


def ground_truth(*truths: dict[str, Any]) -> dict[str, Any]:
    both = truths or (truth(), truth(easy=[5], hard=[], junk=[6]))
    return {"gnd": list(both), "imlist": GALLERY, "qimlist": QUERIES}


def test_revisited_by_hand(tmp_path: Path) -> None:
    source = read(revisited.LAYOUT, revisited_tree(tmp_path / "roxford5k", ground_truth()))
    assert by_name(source) == {
        "jpg/all_souls_000013.jpg": (None, ("query",)),
        "jpg/radcliffe_camera_000519.jpg": (None, ("query",)),
        **{f"jpg/{name}.jpg": (None, ("gallery",)) for name in GALLERY},
    }
    assert {photo.crop for photo in source.photos if "query" in photo.roles} == {(136.5, 34.1, 648.5, 955.7)}
    assert {photo.crop for photo in source.photos if "gallery" in photo.roles} == {None}
    lines = {
        table: {(QUERIES.index(q[4:-4]), int(g[-5]), relevance) for q, g, relevance in judged}
        for table, judged in source.judgements.items()
    }
    assert lines == {
        "qrels_easy.csv": {(0, 0, 1), (0, 1, 1), (0, 2, -1), (0, 3, -1), (0, 4, -1), (1, 5, 1), (1, 6, -1)},
        "qrels_medium.csv": {(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, -1), (0, 4, -1), (1, 5, 1), (1, 6, -1)},
        "qrels_hard.csv": {(0, 0, -1), (0, 1, -1), (0, 2, 1), (0, 3, -1), (0, 4, -1), (1, 5, -1), (1, 6, -1)},
        "qrels.csv": lines["qrels_medium.csv"],
    }
    assert source.skipped == ["jpg/not_listed.jpg"]
    assert (
        "Revisited Oxford: 2 queries" in source.summary
        and "copy qrels_easy.csv or qrels_hard.csv over it" in source.summary
    )


def test_preprocess_leaves_the_other_protocols_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = revisited.LAYOUT.read(revisited_tree(tmp_path / "roxford5k", ground_truth()))
    raw = tree(
        tmp_path / "raw", "test/query/1.jpg", "test/gallery/2.jpg", *source.judgements.keys() - {"qrels.csv"}
    )
    with photo_register.temporary() as register:
        raw_folder.read(register, raw)
        assert register.execute("SELECT * FROM problem").fetchall() == [] and not caplog.messages
    tree(raw, "qrels_new.csv")
    with photo_register.temporary() as register:
        raw_folder.read(register, raw)
        assert "qrels_new.csv: is not read" in caplog.text


def official_protocol(
    truths: Sequence[Mapping[str, Sequence[int]]], rankings: Sequence[Sequence[int]], level: str
) -> tuple[list[float], list[float]]:
    """The average precision of each query, by trapezoids as in the official script, and by hits.

    Ranks of relevant photos are lowered by the junk before them, as its compute_map does.
    """
    trapezoids, by_hits = [], []
    for each, ranking in zip(truths, rankings, strict=True):
        relevant = {*(each["easy"] if level != "hard" else []), *(each["hard"] if level != "easy" else [])}
        junk = {
            *each["junk"],
            *(each["hard"] if level == "easy" else []),
            *(each["easy"] if level == "hard" else []),
        }
        if not relevant:
            trapezoids.append(float("nan"))
            by_hits.append(float("nan"))
            continue
        ranks = [
            rank - sum(earlier in junk for earlier in ranking[:rank])
            for rank, photo in enumerate(ranking)
            if photo in relevant
        ]
        area = 0.0
        for number, rank in enumerate(ranks):
            before = number / rank if rank else 1.0
            area += (before + (number + 1) / (rank + 1)) / 2 / len(relevant)
        trapezoids.append(area)
        by_hits.append(sum((number + 1) / (rank + 1) for number, rank in enumerate(ranks)) / len(relevant))
    return trapezoids, by_hits


@pytest.mark.parametrize("level", ["easy", "medium", "hard"])
def test_revisited_scores_are_those_of_its_protocol(tmp_path: Path, level: str) -> None:
    chance = random.Random(level)
    gallery = [f"oxford_{number:06}" for number in range(50)]
    queries = [f"query_{number:06}" for number in range(12)]
    truths = []
    for number in range(len(queries)):
        shuffled = chance.sample(range(50), 50)
        ends = [0 if number == 3 else 4, 9, 20] if number != 5 else [4, 4, 10]
        truths.append(
            truth(
                easy=shuffled[: ends[0]], hard=shuffled[ends[0] : ends[1]], junk=shuffled[ends[1] : ends[2]]
            )
        )
    root = tree(tmp_path / "roxford5k", *(f"jpg/{name}.jpg" for name in (*gallery, *queries)))
    content = {"gnd": truths, "imlist": gallery, "qimlist": queries}
    (root / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(content))
    source = read(revisited.LAYOUT, root)
    chosen = Source(source.photos, {"qrels.csv": source.judgements[f"qrels_{level}.csv"]})
    relevance, query_names, gallery_names = relevance_of(chosen)
    assert query_names == [f"jpg/{name}.jpg" for name in queries]
    assert gallery_names == [f"jpg/{name}.jpg" for name in gallery]

    rankings = [chance.sample(range(50), 50) for _ in queries]
    trapezoids, by_hits = official_protocol(truths, rankings, level)
    values = scored(relevance, rankings, 50)
    np.testing.assert_allclose(values["map_50"], by_hits)
    excluded = {tuple(pair) for pair in relevance.excluded().tolist()}
    for query, ranking in enumerate(rankings):
        hits = relevance.is_relevant(np.array([ranking] * len(queries)))[query]
        left = [hit for hit, photo in zip(hits, ranking, strict=True) if (query, photo) not in excluded]
        ranks = np.flatnonzero(left)
        area = sum(((n / r if r else 1.0) + (n + 1) / (r + 1)) / 2 for n, r in enumerate(ranks.tolist()))
        np.testing.assert_allclose(area / len(ranks) if len(ranks) else np.nan, trapezoids[query])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_any_protocol_with_arrays_is_read(tmp_path: Path, protocol: int) -> None:
    arrays = truth(
        bbx=np.array([[136.5, 34.1, 648.5, 955.7]]),
        easy=np.array([0, 1], np.uint16),
        hard=np.array([2], ">i4"),
        junk=np.array([], np.int64),
    )
    scalars = truth(easy=(np.int64(5),), hard=[np.uint8(6)], bbx=tuple(np.array([1, 2, 3, 4.5], np.float32)))
    content = ground_truth(arrays, scalars) | {
        "imlist": np.array(GALLERY),
        "qimlist": np.array(QUERIES, object),
    }
    plain = ground_truth(truth(junk=[]), truth(easy=[5], hard=[6], bbx=[1, 2, 3, 4.5]))
    sources = [
        revisited.LAYOUT.read(revisited_tree(tmp_path / name, each, "gnd_rparis6k.pkl", protocol))
        for name, each in (("arrays", content), ("plain", plain))
    ]
    assert sources[0] == sources[1] and sources[0].summary.startswith("Revisited Paris")


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    """Bytes are texts there, also those of an array."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n"
        b"(S'i8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
        rb"S'\x05\x00\x00\x00\x00\x00\x00\x00\xff\x00\x00\x00\x00\x00\x00\x00'"
        b"\ntb."
    )
    path = tmp_path / "gnd.pkl"
    path.write_bytes(array)
    assert restricted_pickle.load(path) == [5, 255]


class Command:
    """Unpickling it would run a command of the shell."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


class Unknown:
    pass


def test_a_pickle_that_numbers_its_objects_high_takes_no_memory(tmp_path: Path) -> None:
    """pickle.loads would reserve 64 GB for the first and 2 GB for the second."""
    path = tmp_path / "gnd.pkl"
    for content in (b"(lp4000000000\n.", b"\x80\x04]r\xff\xff\xff\x7f."):
        path.write_bytes(content)
        assert restricted_pickle.load(path) == []


def test_a_hostile_pickle_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "was_here"
    content = ground_truth() | {"gnd": [Command(f"touch {mark}"), truth()]}
    root = revisited_tree(tmp_path / "roxford5k", content)
    fault = refused(revisited.LAYOUT, root)
    assert re.match(r"SRC/gnd_roxford5k.pkl: was not read, because it would call (posix|nt).system, ", fault)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "would call builtins.eval"),
        (b"c\x1b[2J\nx\n.", r"would call \\x1b\[2J.x"),
        (pickle.dumps(Unknown()), r"would call tests.test_layouts.Unknown"),
        # A function of an admitted module, an attribute of an admitted class, and one that NumPy offers.
        (b"cnumpy\nload\n(S'x'\ntR.", "would call numpy.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", "would call numpy.ndarray.__class__"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "would call numpy.core.multiarray.fromfile"),
        # Changes to what stands for NumPy: the class itself, by a dict and by attributes.
        (b"cnumpy\ndtype\n}S'x'\nI1\nsb.", "is not a pickle of numbers and texts"),
        (b"cnumpy\ndtype\n(N}S'values'\nI1\nstb.", "is not a pickle of numbers and texts"),
        (b"cnumpy.core.multiarray\nscalar\n(N}S'__new__'\nI1\nstb.", "is not a pickle of numbers and texts"),
        # Elements that are pointers, and an array of another length.
        (
            b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\nI0\nI1\ntRS'01234567'\ntR.",
            "unknown kind of numbers",
        ),
        (
            b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i8'\nI0\nI1\ntRS'0123'\ntR.",
            "is not a pickle of",
        ),
        (b"cnumpy.core.multiarray\nscalar\n(I5\nS'01234567'\ntR.", "is not a pickle of numbers and texts"),
        (b"Pexternal\n.", "is not a pickle of numbers and texts"),
        (b"", "is not a pickle"),
        (b"GIF89a", "is not a pickle"),
        (pickle.dumps([1, 2, 3])[:-4], "is not a pickle"),
    ],
)
def test_a_pickle_that_is_more_than_numbers_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "gnd.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=fault) as error:
        restricted_pickle.load(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    # What stands for NumPy is as before.
    path.write_bytes(pickle.dumps([np.array([1.5]), np.int8(3)]))
    assert restricted_pickle.load(path) == [[1.5], 3]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ([1], "has no gnd, imlist and qimlist"),
        ({"gnd": [], "imlist": GALLERY}, "has no gnd, imlist and qimlist"),
        (ground_truth() | {"imlist": [1, 2]}, "imlist: is not a list of names"),
        (ground_truth(truth()), "gnd and qimlist differ in length"),
        (ground_truth(truth(), {"bbx": [1]}), r"gnd\[1\]: has no bbx, easy, hard and junk"),
        (ground_truth(truth(), truth(bbx=[5, 5, 1, 9])), r"gnd\[1\]: bbx is not left, top, right and bottom"),
        (ground_truth(truth(), truth(bbx=[1, 2, 3])), r"gnd\[1\]: bbx is not left, top, right and bottom"),
        (
            ground_truth(truth(), truth(bbx=[1, 2, 3, float("nan")])),
            r"gnd\[1\]: bbx: is not a list of at most 4 ",
        ),
        (ground_truth(truth(), truth(junk="3")), r"gnd\[1\]: junk: is not a list of at most 8 numbers"),
        (ground_truth(truth(), truth(junk=[8])), r"gnd\[1\]: junk has photo 8, and imlist ends with photo 7"),
        (ground_truth(truth(), truth(junk=[0])), r"gnd\[1\]: has photo 0 as easy and as junk"),
        (ground_truth() | {"imlist": [*GALLERY[:7], QUERIES[0]]}, "names 'jpg/all_souls_000013.jpg' twice"),
        (
            ground_truth() | {"qimlist": ["a", "b"]},
            "lacks 2 photos of the 10 in gnd_roxford5k.pkl: 'a', 'b';",
        ),
    ],
)
def test_faults_of_revisited(tmp_path: Path, content: object, fault: str) -> None:
    root = revisited_tree(tmp_path / "roxford5k", content)
    assert re.search(fault, refused(revisited.LAYOUT, root))


# Hugging Face imagefolder


def test_imagefolder_with_metadata_of_all(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "hf",
        "train/0001.png",
        "train/0002.png",
        "test/0003.png",
        "validation/0004.png",
        "test/unnamed.png",
        "README.md",
        texts={
            "metadata.csv": 'file_name,label,text\ntrain/0001.png,cat,"a cat, asleep"\ntrain/0002.png,dog,\n'
            "test/0003.png,cat,x\nvalidation/0004.png,,y\n"
        },
    )
    source = read(huggingface_imagefolder.LAYOUT, root)
    assert list(source.photos) == [
        SourcePhoto("train/0001.png", "cat", ("train",), attributes={"text": "a cat, asleep"}),
        SourcePhoto("train/0002.png", "dog", ("train",)),
        SourcePhoto("test/0003.png", "cat", test_only=True, attributes={"text": "x"}),
        SourcePhoto("validation/0004.png", None, test_only=True, attributes={"text": "y"}),
    ]
    assert source.skipped == ["README.md", "test/unnamed.png"]
    assert source.summary == (
        "Hugging Face imagefolder: 2 photos for training, 2 photos for the test, 1 photo left out; "
        "labels from the column 'label'"
    )


@pytest.mark.parametrize("top", ["", "data/"])
def test_imagefolder_with_metadata_of_each_split(tmp_path: Path, top: str) -> None:
    root = tree(
        tmp_path / "hf",
        f"{top}train/cat/1.jpg",
        f"{top}train/dog/2.jpg",
        f"{top}test/cat/3.jpg",
        texts={
            f"{top}train/metadata.jsonl": '{"file_name": "cat/1.jpg", "n": 1}\n{"file_name": "dog/2.jpg", "n": 2.0}\n',
            f"{top}test/metadata.jsonl": '{"file_name": "cat/3.jpg", "n": null}\n',
        },
    )
    source = read(huggingface_imagefolder.LAYOUT, root)
    assert by_name(source) == {
        f"{top}train/cat/1.jpg": ("cat", ("train",)),
        f"{top}train/dog/2.jpg": ("dog", ("train",)),
        f"{top}test/cat/3.jpg": ("cat", ()),
    }
    assert [photo.test_only for photo in sorted(source.photos, key=lambda photo: photo.name)] == [
        True,
        False,
        False,
    ]
    assert sorted(map(str, attributes(source).values())) == ["{'n': '1'}", "{'n': '2'}", "{}"]
    assert source.summary.endswith("labels from folders")


def test_imagefolder_with_parquet_and_without_splits(tmp_path: Path) -> None:
    root = tree(tmp_path / "hf", "images/1.jpg", "images/2.jpg")
    pq.write_table(
        pa.table({"file_name": ["images/1.jpg", "images/2.jpg"], "label": [3, 4]}), root / "metadata.parquet"
    )
    source = read(huggingface_imagefolder.LAYOUT, root)
    assert list(source.photos) == [SourcePhoto("images/1.jpg", "3"), SourcePhoto("images/2.jpg", "4")]
    assert (
        source.summary
        == "Hugging Face imagefolder: 2 photos for Lineup to split; labels from the column 'label'"
    )


def test_imagefolder_of_training_alone_is_for_lineup_to_split(tmp_path: Path) -> None:
    text = "file_name\n1.jpg\n2.jpg\n"
    root = tree(tmp_path / "hf", "train/1.jpg", "train/2.jpg", texts={"train/metadata.csv": text})
    source = read(huggingface_imagefolder.LAYOUT, root)
    assert list(source.photos) == [SourcePhoto("train/1.jpg"), SourcePhoto("train/2.jpg")]
    assert source.summary == "Hugging Face imagefolder: 2 photos for Lineup to split; no labels"


def test_imagefolder_without_metadata(tmp_path: Path) -> None:
    root = tree(tmp_path / "hf", "train/cat/1.jpg", "train/dog/x/2.jpg", "val/cat/3.jpg")
    assert by_name(read(huggingface_imagefolder.LAYOUT, root)) == {
        "train/cat/1.jpg": ("cat", ("train",)),
        "train/dog/x/2.jpg": ("dog", ("train",)),
        "val/cat/3.jpg": ("cat", ()),
    }


@pytest.mark.parametrize(
    "names",
    [
        ["train/a/1.jpg", "test/query/a/2.jpg", "test/gallery/a/3.jpg"],  # Lineup's own layout
        ["train/1.jpg", "toys/2.jpg"],  # labels, one of which is called train
        ["train/1.jpg", "test/2.jpg", "toys/3.jpg"],
        ["a/1.jpg", "b/2.jpg"],
        ["1.jpg"],
    ],
)
def test_what_is_no_imagefolder(tmp_path: Path, names: list[str]) -> None:
    root = tree(tmp_path / "pile", *names, texts={"metadata.csv": "camera,day\nx,y\n"})
    assert [name for name, layout in LAYOUTS.items() if layout.matches(root)] == []


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        (
            {"metadata.csv": "filename,x\n1.jpg,file_name\n"},
            "SRC/metadata.csv: has no column 'file_name'; did you mean 'filename'?",
        ),
        (
            {"metadata.csv": "file_name,label\n1.jpg,a\n", "metadata.jsonl": '{"file_name": "1.jpg"}'},
            "SRC: holds metadata.csv and metadata.jsonl; remove one of them",
        ),
        (
            {"metadata.csv": "file_name,label\n3.jpg,a\n"},
            "SRC/metadata.csv: 1 photo does not exist below SRC: '3.jpg' (line 2)",
        ),
        (
            {"metadata.jsonl": '{"file_name": "1.jpg"}\n{"file_name"\n'},
            "SRC/metadata.jsonl: line 2: is not valid JSON",
        ),
        (
            {"metadata.csv": "file_name\ntrain/2.jpg\n", "train/metadata.csv": "file_name\n2.jpg\n"},
            "SRC/train/metadata.csv: names 'train/2.jpg', as SRC/metadata.csv does; remove one of the two",
        ),
    ],
)
def test_faults_of_imagefolder(tmp_path: Path, texts: dict[str, str], fault: str) -> None:
    root = tree(tmp_path / "hf", "1.jpg", "train/2.jpg", texts=texts)
    assert refused(huggingface_imagefolder.LAYOUT, root).startswith(fault)


# All of them


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_that_is_not_of_the_layout(tmp_path: Path, name: str) -> None:
    """`--layout` may name any of them."""
    (tmp_path / "pile").mkdir()
    assert not LAYOUTS[name].matches(tmp_path / "pile")
    if name != "huggingface_imagefolder":  # Its photos may lie anywhere.
        with pytest.raises(UserError, match=r"pile: is not .*, since it has no .*; leave out --layout"):
            LAYOUTS[name].read(tmp_path / "pile")


def test_a_data_set_among_others_is_not_taken_for_the_source(market: Path) -> None:
    tree(market.parent, "holidays/1.jpg")
    assert not market1501.LAYOUT.matches(market.parent)


def test_every_layout_is_tested_here_and_names_its_source() -> None:
    general = {"as_is", "label_folders", "flat"}
    assert detection.known().keys() - general == LAYOUTS.keys()
    for name, layout in LAYOUTS.items():
        assert "Source: " in (type(layout).__doc__ or ""), name
