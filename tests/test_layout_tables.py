"""Photos that a table names: formats, separators, encodings, columns, paths, labels, and their faults."""

from __future__ import annotations

import csv
import io
import json
import random
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest

from lineup.errors import UserError
from lineup.layouts import table_files
from lineup.layouts.layout import Source, SourcePhoto
from lineup.layouts.table import read_table

PHOTOS = ("a.jpg", "b.jpg", "shoes/c.jpg", "shoes/d.JPG")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return photos(tmp_path / "products", *PHOTOS)


def photos(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(source: Path, content: str | bytes, name: str = "products.csv") -> Path:
    path = source.parent / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(
    source: Path,
    content: str | bytes,
    name: str = "products.csv",
    paths: str | None = None,
    labels: str | None = None,
) -> Source:
    return read_table(source, table(source, content, name), paths, labels)


def refused(
    source: Path,
    content: str | bytes,
    name: str = "products.csv",
    paths: str | None = None,
    labels: str | None = None,
) -> str:
    with pytest.raises(UserError) as error:
        read(source, content, name, paths, labels)
    sentence = str(error.value)
    assert "\n" not in sentence
    return sentence.replace(str(source.parent / name), "TABLE").replace(str(source), "SRC")


def labels_of(read_source: Source) -> dict[str, str | None]:
    return {photo.name: photo.label for photo in read_source.photos}


def attributes_of(read_source: Source) -> dict[str, Mapping[str, str]]:
    return {photo.name: photo.attributes for photo in read_source.photos}


# How a file is written

ROWS = [
    ["image", "sku", "title", "price"],
    ["a.jpg", "S1", 'Straße; 12" "Käse"', "1,50"],
    ["b.jpg", "S1", "one\r\ntwo, three\nfour", "2,50"],
    ["shoes/c.jpg", "S2", "", "1.299,00"],
    ["shoes/d.JPG", "", "tab\there | there", ""],
]


def written(separator: str, line_end: str = "\r\n", quoting: int = csv.QUOTE_MINIMAL) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator, lineterminator=line_end, quoting=quoting).writerows(ROWS)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-bom", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_separator_encoding_and_quotes_are_recognised(
    source: Path, separator: str, encoding: str, quoting: int
) -> None:
    text = written(separator, quoting=quoting)
    content = b"\xfe\xff" + text.encode("utf-16-be") if encoding == "utf-16-be-bom" else text.encode(encoding)
    result = read(source, content)
    assert list(result.photos) == [
        SourcePhoto("a.jpg", "S1", attributes={"title": ROWS[1][2], "price": "1,50"}),
        SourcePhoto("b.jpg", "S1", attributes={"title": ROWS[2][2], "price": "2,50"}),
        SourcePhoto("shoes/c.jpg", "S2", attributes={"price": "1.299,00"}),
        SourcePhoto("shoes/d.JPG", None, attributes={"title": ROWS[4][2]}),
    ]
    shown = {"cp1252": "Windows-1252", "utf-8-sig": "UTF-8", "utf-16-be-bom": "UTF-16"}.get(
        encoding, encoding.upper()
    )
    words = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
    assert f"values separated by {words[separator]}, in {shown}" in result.summary
    assert "photos in the column 'image', labels in 'sku'; 2 further columns as attributes" in result.summary


def test_shop_exports_with_commas_and_line_breaks_in_texts(source: Path) -> None:
    """In the first, csv.Sniffer takes the line break of a text for the separator."""
    texts = [
        'sku;bild;text\r\n4711;a.jpg;"Lampe\r\nrot"\r\n4712;b.jpg;"Stuhl, Holz"\r\n',
        "Artikelnummer;Bezeichnung, lang;Bild\r\n"
        '4711;"Lampe, rot, 20 cm, mit Kabel, dimmbar\r\n(neu, für Möbel)";a.jpg\r\n'
        "4712;Stuhl, Holz, 45 cm, mit Lehne, stapelbar;b.jpg\r\n",
        'Handle,Title,"Body (HTML)",Image\n4711,"Lamp; red","<p>""20 cm""; with cable;</p>\n<p>new</p>",a.jpg\n'
        "4712,Chair; wood,,b.jpg\n",
    ]
    assert csv.Sniffer().sniff(texts[0]).delimiter == "\r"
    for text in texts:
        assert labels_of(read(source, text.encode("cp1252"))) == {"a.jpg": "4711", "b.jpg": "4712"}


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\nimage;sku\r\na.jpg;x,y\r\n",  # Excel
        'image,sku\na.jpg,"x,y"',  # no line end
        "image;sku;\na.jpg;x,y;\n",  # a separator at the end of each line
        "\n\nimage;sku\n\n ; \na.jpg;x,y\n\n",  # empty lines
        "image\tsku\ra.jpg\tx,y\r",  # an old Mac
        'image, sku\n"a.jpg", "x,y"\n',  # spaces behind commas
        'Image ;"sku"\n a.jpg ; x,y \n',
    ],
)
def test_odd_forms_of_csv(source: Path, text: str) -> None:
    assert labels_of(read(source, text)) == {"a.jpg": "x,y"}


def test_quotes_escaped_by_a_backslash(source: Path) -> None:
    """As MySQL and Spark write them."""
    result = read(source, 'image,sku,title\na.jpg,1,"a \\"big\\" lamp, red"\nb.jpg,2,"x"\n')
    assert attributes_of(result)["a.jpg"] == {"title": 'a "big" lamp, red'}


def test_rows_without_their_empty_end_are_read(source: Path) -> None:
    """Excel leaves out empty values at the end of a row."""
    result = read(source, "image,sku,colour,size\na.jpg,1,red,5\nb.jpg,2\nshoes/c.jpg\n")
    assert labels_of(result) == {"a.jpg": "1", "b.jpg": "2", "shoes/c.jpg": None}


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_what_pandas_writes_is_read_as_pandas_reads_it(source: Path, seed: int, index: bool) -> None:
    chance = random.Random(seed)
    letters = "ab ,;|\t\"'\n\\é–€"
    texts = ["".join(chance.choices(letters, k=chance.randrange(12))) + "." for _ in range(40)]
    frame = pd.DataFrame(
        {"file": chance.choices(PHOTOS, k=40), "note": texts, "number": [*range(39), None], "sku": "x"}
    ).drop_duplicates("file")
    for separator, encoding in ((",", "utf-8"), (";", "cp1252"), ("\t", "utf-16")):
        path = source.parent / "frame.csv"
        frame.to_csv(path, sep=separator, encoding=encoding, index=index)
        again = pd.read_csv(path, sep=separator, encoding=encoding, dtype=str, keep_default_na=False)
        assert [*table_files.read(path).columns.values()] == [again[name].tolist() for name in again.columns]
        assert [photo.name for photo in read_table(source, path, None, None).photos] == frame["file"].tolist()


def test_parquet_json_lines_and_a_json_array_give_the_same(source: Path) -> None:
    frame = pd.DataFrame(
        {
            "image": ["a.jpg", "b.jpg", "shoes/c.jpg"],
            "sku": [10, None, 12],
            "sale": [True, False, None],
            "w": [0.5, 1, None],
        }
    )
    for name in ("t.parquet", "t.jsonl", "t.json", "t.ndjson"):
        path = source.parent / name
        if name == "t.parquet":
            frame.to_parquet(path)
        else:
            frame.to_json(path, orient="records", lines=name != "t.json")
        result = read_table(source, path, None, None)
        assert list(result.photos) == [
            SourcePhoto("a.jpg", "10", attributes={"sale": "true", "w": "0.5"}),
            SourcePhoto("b.jpg", None, attributes={"sale": "false", "w": "1"}),
            SourcePhoto("shoes/c.jpg", "12"),
        ], name


@pytest.mark.parametrize(
    ("content", "name", "fault"),
    [
        (b"", "t.csv", "TABLE: is empty; it needs a header and a row for each photo"),
        (b"image,sku\n", "t.csv", "TABLE: has a header and no rows"),
        (b"PK\x03\x04rest", "t.xlsx", "TABLE: is an Excel workbook or a ZIP; save the sheet as 'CSV UTF-8'"),
        (b"\x1f\x8b\x08rest", "t.csv.gz", "TABLE: is compressed (gzip); unpack it"),
        (b"PAR1 and nothing else", "t.parquet", "TABLE: is damaged ("),
        (b"i\0m\0a\0g\0e\0", "t.csv", "TABLE: is not text, or is UTF-16 without a mark"),
        (b"\xff\xfei\0m\0a", "t.csv", "TABLE: begins as UTF-16 and is not ("),
        (b"image,sku\na.jpg,\x81\n", "t.csv", "TABLE: is neither UTF-8 nor Windows-1252"),
        (
            "image,sku\na.jpg,äöüß\n".encode() + b"b.jpg,\xe4\n",
            "t.csv",
            "TABLE: line 3: is not UTF-8, as the lines before",
        ),
        (b"image,sku\na.jpg,1,2\n", "t.csv", "TABLE: line 2: has 3 values, and the header 2"),
        (
            b'image,sku\na.jpg,"1\nb.jpg,2\n',
            "t.csv",
            "TABLE: is not valid CSV (line 2: a quote is opened and not closed)",
        ),
        (
            b'image,sku\na.jpg,1\n"b.jpg"x,2\n',
            "t.csv",
            "TABLE: is not valid CSV (line 3: ',' expected after '\"')",
        ),
        (
            b'{"image": "a.jpg"}\n{"image"\n',
            "t.jsonl",
            "TABLE: line 2: is not valid JSON (Expecting ':' delimiter",
        ),
        (b'{"image": "a.jpg"}\n[1]\n', "t.jsonl", "TABLE: line 2: is not an object with named values"),
        (b'[{"image": "a.jpg"}, 3]', "t.json", "TABLE: row 2: is not an object with named values"),
        (b"[" * 100_000, "t.json", "TABLE: is not valid JSON ("),
    ],
)
def test_faults_of_a_file(source: Path, content: bytes, name: str, fault: str) -> None:
    assert refused(source, content, name).startswith(fault)


def test_a_table_that_is_no_file(source: Path, tmp_path: Path) -> None:
    for path, fault in ((tmp_path / "no.csv", "does not exist"), (source, "is a folder")):
        with pytest.raises(UserError, match=f"{path}: {fault}; name a table"):
            read_table(source, path, None, None)


# Columns


@pytest.mark.parametrize(
    ("header", "paths", "labels"),
    [
        ("image,sku", "image", "sku"),
        ("Image Path;Product ID", "Image Path", "Product ID"),
        ("file_name\tclass", "file_name", "class"),
        ("sku,label,category,Bild", "Bild", "label"),  # label is sure
        ("SKU,image,image_name", "image", "SKU"),  # image_name holds no photo
        ("whatever,style", "whatever", "style"),  # it holds photos
        ("image", "image", None),
    ],
)
def test_columns_are_guessed_where_one_is_plausible(
    source: Path, header: str, paths: str, labels: str | None
) -> None:
    separator = next((s for s in ";\t," if s in header), ",")
    columns = header.split(separator)
    rows = [separator.join("a.jpg" if name == paths else f"<{name}>" for name in columns)]
    result = read(source, "\n".join([header, *rows]))
    assert labels_of(result) == {"a.jpg": labels and f"<{labels}>"}
    assert (
        f"photos in the column '{paths}', {f'labels in {labels!r}' if labels else 'no labels'}"
        in result.summary
    )


@pytest.mark.parametrize(
    ("text", "paths", "labels", "fault"),
    [
        (
            "image,file,sku\na.jpg,b.jpg,1\n",
            None,
            None,
            "TABLE: 'image', 'file' may each hold the photos' paths; choose one with --path-column",
        ),
        (
            "image,sku,category\na.jpg,1,x\n",
            None,
            None,
            "TABLE: 'sku', 'category' may each hold the labels; choose one with --label-column, or --label-column '' for no labels",
        ),
        (
            "image,colour,size\na.jpg,red,5\n",
            None,
            None,
            "TABLE: it is unclear which of 'image', 'colour', 'size' holds the labels; choose one with --label-column",
        ),
        (
            "colour,size\nred,5\n",
            None,
            None,
            "TABLE: it is unclear which of 'colour', 'size' holds the photos' paths; choose one with --path-column",
        ),
        ("image,sku\na.jpg,1\n", "imgae", None, "TABLE: has no column 'imgae'; did you mean 'image'?"),
        ("image,sku\na.jpg,1\n", None, "SKU", "TABLE: has no column 'SKU'; did you mean 'sku'?"),
        ("image,sku\na.jpg,1\n", None, "xyzzy", "TABLE: has no column 'xyzzy'; known: image, sku"),
        (
            "image,sku\na.jpg,1\n",
            "image",
            "image",
            "TABLE: the column 'image' can't be both the path and the label",
        ),
    ],
)
def test_faults_of_columns(
    source: Path, text: str, paths: str | None, labels: str | None, fault: str
) -> None:
    assert refused(source, text, paths=paths, labels=labels).startswith(fault)


def test_columns_that_the_user_names(source: Path) -> None:
    text = "image,file,sku,category\na.jpg,b.jpg,1,x\n"
    assert labels_of(read(source, text, paths="file", labels="category")) == {"b.jpg": "x"}
    assert attributes_of(read(source, text, paths="file", labels=""))["b.jpg"] == {
        "image": "a.jpg",
        "sku": "1",
        "category": "x",
    }


def test_repeated_and_empty_names_of_columns(source: Path) -> None:
    result = read(source, "image,sku,note,note,\na.jpg,1,x,y,z\n")
    assert attributes_of(result)["a.jpg"] == {"note": "x", "note (4)": "y", "column 5": "z"}


# Paths


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("shoes/c.jpg", "shoes/c.jpg"),
        ("./shoes//c.jpg", "shoes/c.jpg"),
        ("shoes\\c.jpg", "shoes/c.jpg"),
        (".\\shoes\\..\\a.jpg", "a.jpg"),
        ("SHOES/C.jpg", "shoes/c.jpg"),
        ("shoes/d.jpg", "shoes/d.JPG"),
        ("products/a.jpg", "a.jpg"),
        ("{source}/a.jpg", "a.jpg"),
    ],
)
def test_ways_to_write_a_path(source: Path, cell: str, name: str) -> None:
    result = read(source, f"image,sku\n{cell.format(source=source)},1\n")
    assert list(labels_of(result)) == [name]
    is_respelt = cell.endswith(("C.jpg", "d.jpg"))
    assert ("1 path matched without regard to capitals" in result.summary) == is_respelt


def test_paths_in_any_unicode_form(tmp_path: Path) -> None:
    forms: tuple[Literal["NFC"], Literal["NFD"]] = ("NFC", "NFD")
    for stored, written_as in (forms, forms[::-1]):
        name = unicodedata.normalize(stored, "Ñandú é.jpg")
        source = photos(tmp_path / stored / "products", name)
        text = f"image,sku\n{unicodedata.normalize(written_as, name)},é\n"
        assert [photo.name for photo in read(source, text).photos] == [name]


def test_names_that_differ_by_capitals_alone_are_not_mixed_up(tmp_path: Path) -> None:
    source = photos(tmp_path / "products", "A.jpg", "a.jpg")
    assert labels_of(read(source, "image,sku\nA.jpg,1\na.jpg,2\n")) == {"A.jpg": "1", "a.jpg": "2"}
    assert refused(source, "image,sku\nA.JPG,1\n").startswith(
        "TABLE: 1 photo does not exist below SRC: 'A.JPG' (line 2)"
    )


def test_paths_relative_to_the_table(source: Path) -> None:
    path = source / "shoes/list.csv"
    path.write_text("image,sku\nc.jpg,1\n../a.jpg,2\n")
    result = read_table(source, path, None, None)
    assert labels_of(result) == {"shoes/c.jpg": "1", "a.jpg": "2"}
    assert "paths are relative to shoes/" in result.summary
    assert "2 photos of " in result.summary and result.skipped == []


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ("c.jpg", "TABLE: 1 photo does not exist below SRC: 'c.jpg' (line 2); did you mean 'shoes/c.jpg'?"),
        ("b.png", "TABLE: 1 photo does not exist below SRC: 'b.png' (line 2); did you mean 'b.jpg'?"),
        ("/etc/passwd", "TABLE: 1 photo does not exist below SRC: '/etc/passwd' (line 2)"),
        ("../products.csv", "TABLE: 1 photo does not exist below SRC: '../products.csv' (line 2)"),
        (
            "https://cdn.example.org/a.jpg",
            "TABLE: 1 photo is a URL, not a file: 'https://cdn.example.org/a.jpg' (line 2); download them into SRC",
        ),
        ("zzz", "TABLE: 1 photo does not exist below SRC: 'zzz' (line 2); write paths relative to SRC"),
        ('"a.jpg|x.jpg|b.jpg"', "TABLE: 1 photo does not exist below SRC: 'x.jpg' (line 2)"),
    ],
)
def test_a_path_that_names_no_photo(source: Path, cell: str, fault: str) -> None:
    assert refused(source, f"image,sku\n{cell},1\n", paths="image").startswith(fault)


def test_many_missing_photos_are_counted_and_three_named(source: Path) -> None:
    text = "image,sku\n" + "".join(f"{number}.jpg,1\n" for number in range(1_234)) + "a.jpg,1\n"
    assert refused(source, text).startswith(
        "TABLE: 1,234 photos do not exist below SRC: '0.jpg' (line 2), '1.jpg' (line 3), '2.jpg' (line 4), …;"
    )


@pytest.mark.parametrize("separator", ["|", ";", ",", ", ", "\n"])
def test_several_photos_in_a_cell(source: Path, separator: str) -> None:
    cell = separator.join(["a.jpg", "shoes\\c.jpg", "b.jpg"])
    out = io.StringIO(newline="")
    csv.writer(out).writerows([["SKU", "Images"], ["1", cell], ["2", "shoes/d.JPG"], ["3", ""]])
    result = read(source, out.getvalue())
    assert labels_of(result) == {"a.jpg": "1", "shoes/c.jpg": "1", "b.jpg": "1", "shoes/d.JPG": "2"}
    assert "1 line without a photo; 4 photos in 2 lines" in result.summary


def test_a_separator_behind_the_only_photo(source: Path) -> None:
    assert labels_of(read(source, "image,sku\na.jpg|,1\n")) == {"a.jpg": "1"}


def test_a_list_of_photos_in_json(source: Path) -> None:
    rows = [{"images": ["a.jpg", "b.jpg"], "sku": 1}, {"images": [], "sku": 2}]
    assert labels_of(read(source, json.dumps(rows), "t.json")) == {"a.jpg": "1", "b.jpg": "1"}


def test_a_name_with_a_separator_is_one_photo(tmp_path: Path) -> None:
    source = photos(tmp_path / "products", "red, blue;green.jpg")
    assert labels_of(read(source, 'image,sku\n"red, blue;green.jpg",1\n')) == {"red, blue;green.jpg": "1"}


# Labels


def test_a_photo_in_two_rows(source: Path) -> None:
    text = "image,sku,size\na.jpg,1,S\nb.jpg,,S\na.jpg,1,M\nb.jpg,2,M\nshoes/c.jpg, ,\n"
    result = read(source, text)
    assert labels_of(result) == {"a.jpg": "1", "b.jpg": "2", "shoes/c.jpg": None}
    assert attributes_of(result)["a.jpg"] == {"size": "S"}
    assert "3 photos in 5 lines" in result.summary
    assert refused(source, text + "./A.jpg,9,L\n") == (
        "TABLE: lines 2 and 7 give 'a.jpg' the labels '1' and '9'; correct one of them"
    )


def test_lines_are_those_of_the_file(source: Path) -> None:
    text = 'sep=;\r\n\r\nimage;sku;text\r\na.jpg;1;"two\r\nlines"\r\n\r\na.jpg;2;x\r\n'
    assert (
        refused(source, text)
        == "TABLE: lines 4 and 7 give 'a.jpg' the labels '1' and '2'; correct one of them"
    )


def test_a_fault_behind_excels_line_has_the_line_of_the_file(source: Path) -> None:
    assert refused(source, 'sep=;\nimage;sku\na.jpg;"1\n').startswith(
        "TABLE: is not valid CSV (line 3: a quote"
    )
    assert refused(source, "sep=;\nimage;sku\na.jpg;1;2\n").startswith("TABLE: line 3: has 3 values")


def test_photos_that_the_table_does_not_name_are_left_out(source: Path) -> None:
    (source / "notes.txt").touch()
    result = read(source, "image,sku\na.jpg,1\n")
    assert "3 photos of " in result.summary and result.skipped == ["notes.txt"]
    assert (
        "3 photos of" in result.summary and "left out, since the table does not name them" in result.summary
    )


@pytest.mark.slow
def test_a_hundred_thousand_rows(tmp_path: Path) -> None:
    """Nothing in it grows with the square of the rows: this takes two seconds, not hours."""
    names = [f"{number // 1_000:03}/{number:06}.jpg" for number in range(2_000)]
    source = photos(tmp_path / "products", *names)
    rows: Sequence[str] = [f"{names[n % 2_000]};{n % 2_000 // 4};text, {n};{n / 8}" for n in range(100_000)]
    result = read(source, "\n".join(["image;sku;title;price", *rows]))
    assert len(result.photos) == 2_000 and len({*labels_of(result).values()}) == 500
