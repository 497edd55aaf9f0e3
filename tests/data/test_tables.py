"""A CSV and Parquet files: the same images are read as from a folder, by the same code, and bad rows are named."""

import csv
import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.cli.main import main
from utuning_search.common.errors import DataError, InputError
from utuning_search.data import own as own_images
from utuning_search.data import parquet
from utuning_search.data.csv_table import Csv
from utuning_search.data.decoded import SearchData
from utuning_search.data.decoding import Decoding
from utuning_search.data.loading import check_test_data, load_final_data, load_search_data
from utuning_search.data.looking import look_at
from utuning_search.data.permit import TestPermit
from utuning_search.data.pixels import UnreadableError
from utuning_search.data.places import find_data
from utuning_search.data.survey import Survey
from utuning_search.training.task import Task

COLOUR = Preprocessing(8, 3, (0.5,) * 3, (0.5,) * 3, "bicubic")
CLASSES = ("ant", "bee", "cat")
Make = Callable[[int], Image.Image]


def noise(i: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8))


def odd(i: int) -> Image.Image:
    """Transparent icons, 10-bit samples, a copy, and pictures of one colour."""
    random = np.random.default_rng(i)
    match i % 4:
        case 0:
            icon = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
            icon.paste((255, 255, 255, 255), (i % 8, 0, i % 8 + 1, 8))
            return icon
        case 1:
            return Image.fromarray(random.integers(0, 1024, (8, 8), dtype=np.uint16))
        case 2:
            return noise(2 + i % 3)  # copies of the same few
        case _:
            return Image.new("RGB", (8, 8), "red")


def photos(root: Path, make: Make, splits: dict[str, int]) -> Path:
    """A folder root/photos/<split>/<class>/NN.png of each split's number of images a class; "" for no split folder."""
    turned = Image.Exif()
    turned[0x0112] = 3
    for s, (split, count) in enumerate(splits.items()):
        for c, name in enumerate(CLASSES):
            for i in range(count):
                path = root / "photos" / split / name / f"{i:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                number = 100 * s + 3 * i + c
                make(number).save(path, **({"exif": turned} if i % 5 == 1 else {}))
    return root / "photos"


def rows_of(folder: Path, splits: dict[str, int]) -> list[tuple[str, str, str]]:
    """Path, class and split of each image, in the order in which a folder is read."""
    split_folders = [s for s in splits if s]
    paths = sorted(p.relative_to(folder) for p in folder.rglob("*.png"))
    return [(p.as_posix(), p.parts[-2], p.parts[0] if split_folders else "train") for p in paths]


def as_csv(folder: Path, splits: dict[str, int]) -> Path:
    file = folder / "photos.csv"
    rows = rows_of(folder, splits)
    with file.open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(["path", "label", "split"] if any(splits) else ["path", "label"])
        writer.writerows(row if any(splits) else row[:2] for row in rows)
    return file


def table_of(contents: list[bytes | None], labels: list[object], names: tuple[str, ...] | None = CLASSES) -> pa.Table:
    """As `datasets` writes it, with the names of its classes; without, labels are words."""
    image = [{"bytes": content, "path": None} for content in contents]
    if names is None:
        return pa.table({"image": contents, "label": labels})
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    about = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
    numbers = [names.index(x) if isinstance(x, str) else x for x in labels]
    table = pa.table({"image": pa.array(image, kind), "label": pa.array(numbers, pa.int64())})
    return table.replace_schema_metadata({"huggingface": json.dumps(about)})


def as_parquet(folder: Path, splits: dict[str, int], names: tuple[str, ...] | None = CLASSES) -> Path:
    """Two shards a split, of row groups of four rows."""
    out = folder.parent / f"shards {names}"
    out.mkdir()
    rows = rows_of(folder, splits)
    for split in dict.fromkeys(row[2] for row in rows):
        mine = [row for row in rows if row[2] == split]
        half = len(mine) // 2
        for k, part in enumerate((mine[:half], mine[half:])):
            table = table_of([(folder / row[0]).read_bytes() for row in part], [row[1] for row in part], names)
            shown = split if any(splits) else "part"
            pq.write_table(table, out / f"{shown}-{k:05d}-of-00002.parquet", row_group_size=4)
    return out


def as_named_parquet(folder: Path, splits: dict[str, int]) -> Path:
    return as_parquet(folder, splits, None)


def load(found: Survey) -> tuple[SearchData, tuple[str, ...]]:
    spec = replace(found.spec(), proxy=12, validation=6)
    data = load_search_data(spec, COLOUR, found.root.parent)
    return data, check_test_data(spec, COLOUR, data, found.root.parent, permit=TestPermit())


def without_names(notes: tuple[str, ...]) -> list[str]:
    """What notes say, but for the names of images, which a folder and a table have of their own."""
    return [re.sub(r"[^\s('\"]+\.(png|parquet:\d+)", "IMAGE", note) for note in notes]


TABLES = {"csv": as_csv, "parquet": as_parquet, "words in parquet": as_named_parquet}
TRAIN_TEST, WHOLE = {"train": 8, "test": 3}, {"": 10}


@pytest.mark.parametrize("large", [False, True], ids=["pixels", "stored"])
@pytest.mark.parametrize("splits", [TRAIN_TEST, WHOLE], ids=["splits", "no splits"])
@pytest.mark.parametrize("make", [noise, odd])
@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_read_as_the_folder_is(
    kind: str, make: Make, splits: dict[str, int], large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images, classes, copies, decoding and what is said of them; where the test images lie apart and where not."""
    if large:
        monkeypatch.setattr(own_images, "MOST_IMAGES", 1)
    folder = photos(tmp_path, make, splits)
    wanted, ahead = load(look_at(folder))
    found = look_at(TABLES[kind](folder, splits))
    assert found.source == kind.split(" ")[-1]
    assert (found.classes, found.test, found.held_out) == (lambda s: (s.classes, s.test, s.held_out))(look_at(folder))
    data, said = load(found)
    assert data.classes == wanted.classes == CLASSES
    assert (data.digest, data.decoding) == (wanted.digest, wanted.decoding)
    assert without_names(data.notes) == without_names(wanted.notes)
    assert len(said) == len(ahead)
    if make is odd:
        assert data.decoding == Decoding(0, {"16-bit": (0.0, 1023.0)})
        assert len(data.notes) >= 5
    finals = [
        load_final_data(replace(f.spec(), proxy=12, validation=6), COLOUR, f.root.parent, permit=TestPermit())
        for f in (found, look_at(folder))
    ]
    assert finals[0].digest == finals[1].digest
    assert len({*finals[0].test.names, *finals[0].train.names}) == len(rows_of(folder, splits))


def test_a_pattern_takes_the_files_that_fit(tmp_path: Path) -> None:
    shards = as_parquet(photos(tmp_path, noise, TRAIN_TEST), TRAIN_TEST)
    found = look_at(shards / "train-*.parquet")
    assert (found.source, found.classes, found.test) == ("parquet", dict.fromkeys(CLASSES, 8), None)
    assert found.name == "shards---ant----bee----cat"
    assert load(found)[0].proxy.labels.bincount().tolist() == [4, 4, 4]
    with pytest.raises(InputError, match="a pattern that nothing fits"):
        look_at(shards / "valid-*.parquet")


def test_rows_of_a_validation_split_are_for_the_test_where_no_others_are(tmp_path: Path) -> None:
    splits = {"train": 6, "validation": 2, "test": 3}
    folder = photos(tmp_path, noise, splits)
    found = look_at(as_csv(folder, splits))
    assert found.test == dict.fromkeys(CLASSES, 3)
    assert "'validation' is not used: designs are compared on a part of 'train'." in "\n".join(found.notes())
    (folder / "photos.csv").write_text((folder / "photos.csv").read_text().replace(",test", ",train"))
    found = look_at(folder / "photos.csv")
    assert (found.classes["ant"], found.test) == (9, dict.fromkeys(CLASSES, 2))


def test_a_split_without_labels_is_left_out(tmp_path: Path) -> None:
    """Hugging Face writes -1 where labels are secret."""
    folder = photos(tmp_path, noise, TRAIN_TEST)
    shards = as_parquet(folder, TRAIN_TEST)
    for file in shards.glob("test-*"):
        rows = pq.read_table(file).num_rows
        pq.write_table(table_of([b""] * rows, [-1] * rows), file)
    found = look_at(shards)
    assert found.test is None
    assert "'test' is not used: it has no label, so nobody knows what its images show." in "\n".join(found.notes())


# What is refused

HEADER = "path,label,split\n"
GOOD = "".join(f"{c}/{i}.png,{c},\n".replace(",\n", ",train\n") for c in "ab" for i in range(3))
BAD = {
    "no row": (HEADER, "every image has a row with its class; got no row but the first"),
    "nothing": ("", "row 1: its first row is path,label"),
    "semicolons": ("path;label\na/0.png;a\n", "got path;label. Separate columns with commas."),
    "a column twice": ("path,label,label\n", "row 1: each column is there once; got label several times"),
    "no label column": ("path,class\n", "row 1: its first row is path,label or path,label,split; got path, class"),
    "missing file": (HEADER + GOOD + "a/9.png,a,train\n", "row 8: its file is there, in"),
    "a folder": (HEADER + GOOD + "a,a,train\n", "row 8: its file is there, in"),
    "an endless name": (HEADER + GOOD + "a" * 5000 + ",a,train\n", "row 8: its file is there, in"),
    "empty path": (HEADER + GOOD + ",a,train\n", "row 8: it names an image file; got an empty path"),
    "empty label": (HEADER + GOOD + "a/0.png, ,train\n", "row 8: it names a class; got an empty label"),
    "a text for a label": (
        HEADER + GOOD + f"a/0.png,{'a long text ' * 30},train\n",
        "row 8: a class's name has at most 255 letters; got 359 of 'a long text a long t...'. Give a short label.",
    ),
    "unknown split": (
        HEADER + GOOD + "a/0.png,a,holdout\n",
        "row 8: its split is one of 'val', 'train', 'validation', 'test'; got 'holdout'",
    ),
    "outside": (HEADER + GOOD + "../x.png,a,train\n", "row 8: its path is relative to the table and stays in its"),
    "absolute": (HEADER + GOOD + "/x.png,a,train\n", "row 8: its path is relative to the table and stays in its"),
    "too few columns": (HEADER + GOOD + "a/0.png,a\n", "row 8: it has 3 columns; got 2"),
    "an open quote": (HEADER + GOOD + '"a/0.png,a,train\n', "row 8: it is CSV"),
    "one class": (HEADER + "a/0.png,a,train\na/1.png,a,train\na/2.png,a,train\n", "at least two classes; got one, 'a'"),
    "splits as labels": (
        "path,label\na/0.png,train\na/1.png,train\na/2.png,test\nb/0.png,test\n",
        "no class has the name of a split; got 'test' among test, train",
    ),
    "another class in test": (
        HEADER + GOOD + "a/0.png,c,test\n",
        "the classes of 'test' are among those of 'train'; got 'c' in 'test' only",
    ),
    "too few": ("path,label\na/0.png,a\nb/0.png,b\n", "some class has images to train, to compare and to test on"),
    "test alone": ("path,label,split\na/0.png,a,test\nb/0.png,b,test\n", "some rows are to train on; got none"),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for c in "ab":
        (tmp_path / "own" / c).mkdir(parents=True)
        for i in range(3):
            noise(i).save(tmp_path / "own" / c / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_csv_is_refused_in_one_line(fault: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, said = BAD[fault]
    (place / "own" / "table.csv").write_text(content)
    assert main(["run", "--data", "own/table.csv", "--workers", "0"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("utuning-search: error: ")
    assert "table.csv" in error
    assert error.count("\n") == 1
    assert not (place / "studies").exists()


def test_what_spreadsheets_write_is_read(place: Path) -> None:
    """A mark of UTF-8, lines that end as on Windows, blank lines, other columns, spaces, names with commas and in any
    language."""
    noise(7).save(place / "own" / "a" / "x, y.png")
    content = "path , label,width\r\na/0.png, Bär ,8\r\n\r\n./a/1.png,Bär,8\r\n,,\r\na//2.png,猫,8\r\n"
    content += '"a/x, y.png",猫,8\r\nb/0.png,猫,8\r\nb/1.png,Bär,8\r\n'
    (place / "own" / "t.csv").write_bytes(b"\xef\xbb\xbf" + content.encode())
    found = look_at(place / "own" / "t.csv")
    assert found.classes == {"Bär": 3, "猫": 3}


def test_an_image_that_is_gone_once_the_table_was_read_is_left_out(place: Path) -> None:
    for i in range(60):
        noise(i).save(place / "own" / "a" / f"{i}.png")
    rows = "".join(f"a/{i}.png,{'xy'[i % 2]}\n" for i in range(60))
    (place / "own" / "t.csv").write_text(f"path,label\n{rows}")
    spec = look_at(place / "own" / "t.csv").spec()
    source = Csv(spec, COLOUR, place / "own")
    assert source.classes == ("x", "y")
    (place / "own" / "a" / "7.png").unlink()
    parts = source.train(), source.test(TestPermit())
    gone = [(part, i) for part in parts for i, name in enumerate(part.names) if name == "a/7.png"]
    with pytest.raises(UnreadableError, match="No such file"):
        gone[0][0].read(gone[0][1])


def test_a_csv_of_another_encoding_is_refused(place: Path) -> None:
    (place / "own" / "t.csv").write_bytes("path,label\na/0.png,Bär\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"UTF-8; got byte 0xe4\. Save it as CSV UTF-8"):
        look_at(place / "own" / "t.csv")


def png(i: int) -> bytes:
    content = io.BytesIO()
    noise(i).save(content, "png")
    return content.getvalue()


def good() -> pa.Table:
    return table_of([png(i) for i in range(9)], [CLASSES[i % 3] for i in range(9)])


def labelled(*labels: object, names: tuple[str, ...] | None = CLASSES) -> pa.Table:
    return table_of([png(i) for i in range(len(labels))], list(labels), names)


BROKEN: dict[str, tuple[Callable[[], dict[str, pa.Table]], str]] = {
    "no image": (lambda: {"x": good().rename_columns(["img", "label"])}, "it has a column 'image'"),
    "no label": (lambda: {"x": good().rename_columns(["image", "target"])}, "Rename the columns."),
    "a column twice": (
        lambda: {"x": good().append_column("label", good().column("label"))},
        "each column is there once; got label",
    ),
    "labels that are no labels": (lambda: {"x": labelled(0.5, 1.5, names=None)}, "'label' of numbers or names; got"),
    "images that are none": (lambda: {"x": pa.table({"image": [1, 2], "label": [0, 1]})}, "got image (int64)"),
    "empty label": (lambda: {"x": labelled("a", "", "b", names=None)}, "x.parquet, row 1: it names a class"),
    "a text for a label": (
        lambda: {"x": labelled("a", "x\n" * 200, "b", names=None)},
        r"x.parquet, row 1: a class's name has at most 255 letters; got 400 of 'x\nx\n",
    ),
    "no class": (lambda: {"x": labelled(0, 1, -1, 2)}, "x.parquet, row 2: it names a class; got an empty label"),
    "beyond the names": (lambda: {"x": labelled(0, 1, 3)}, "row 2: labels are from 0 to 2"),
    "names twice": (lambda: {"x": labelled(0, 1, names=("a", "a"))}, "the names of its classes are different words"),
    "other names": (
        lambda: {"x": good(), "y": labelled(0, 1, names=("a", "b"))},
        "y.parquet: all files have the same names of classes",
    ),
    "other files": (
        lambda: {"train-0": good(), "more": good()},
        "none of them is; got more.parquet beside others",
    ),
    "configurations": (
        lambda: {"large/train-0": good(), "small/train-0": good()},
        "its files for 'train' lie in one folder; got large, small",
    ),
    "splits as labels": (
        lambda: {"x": labelled("train", "test", "train", names=None)},
        "no class has the name of a split; got 'test' among test, train",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_bad_parquet_is_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    make, said = BROKEN[fault]
    for name, table in make().items():
        path = tmp_path / "data" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    with pytest.raises((InputError, DataError)) as caught:
        look_at(tmp_path / "data")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1" + b"\0" * 40)
    with pytest.raises(InputError, match=r"Parquet file .*x\.parquet: it can be read"):
        look_at(tmp_path / "x.parquet")


def test_labels_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """Which pyarrow reads as words, as whoever wrote them said."""
    bytes_ = pa.array([b"ant", b"caf\xe9", b"bee"])
    words = pa.StringArray.from_buffers(3, bytes_.buffers()[1], bytes_.buffers()[2])
    pq.write_table(pa.table({"image": [png(i) for i in range(3)], "label": words}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"x\.parquet: it can be read; got 'utf-8' codec"):
        look_at(tmp_path / "x.parquet")


def test_pictures_that_are_no_pictures_are_left_out_or_refused(tmp_path: Path) -> None:
    """As in a folder: a few are named, and more are too many."""
    contents: list[bytes | None] = [png(i) for i in range(60)]
    contents[7] = None
    for broken, file in (({}, "one"), (dict.fromkeys(range(20, 30), b"none"), "many")):
        given = [broken.get(i, content) for i, content in enumerate(contents)]
        pq.write_table(table_of(given, [CLASSES[i % 3] for i in range(60)]), tmp_path / f"{file}.parquet")
    found = look_at(tmp_path / "one.parquet")
    data = load_search_data(replace(found.spec(), proxy=33, validation=15), COLOUR, tmp_path)
    assert data.skipped == {"one.parquet:7": "no bytes"}
    found = look_at(tmp_path / "many.parquet")
    with pytest.raises(DataError, match=r"many\.parquet:\d+ \(no image of a known format\)"):
        load_search_data(replace(found.spec(), proxy=33, validation=15), COLOUR, tmp_path)


def test_without_pyarrow_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(good(), tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"pip install 'utuning-search\[parquet\]'"):
        look_at(tmp_path / "x.parquet")
    assert parquet.SUFFIX == ".parquet"


def test_a_folder_of_both_and_a_file_of_neither_are_refused(place: Path) -> None:
    pq.write_table(good(), place / "own" / "x.parquet")
    with pytest.raises(InputError, match=r"a folder holds images or Parquet files; got 1 Parquet files and 6 images"):
        look_at(place / "own")
    (place / "own" / "x.txt").write_text("x")
    for name, got in (("x.txt", "another file"), ("y.csv", "no such folder or file")):
        with pytest.raises(InputError, match=f"it is a folder of images, a .csv, or Parquet.*{got}"):
            look_at(place / "own" / name)


@pytest.mark.parametrize("name", ["x" * 300, f"{'é' * 200}/*.parquet", f"train-*{'x' * 300}"])
def test_a_name_that_no_file_can_have_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder or file|a pattern that nothing fits"):
        look_at(tmp_path / name)
    with pytest.raises(InputError, match="it exists in the data directory"):
        find_data(name, tmp_path, "task data, root")


def test_a_table_that_keeps_its_own_for_the_test_has_no_split(place: Path) -> None:
    (place / "own" / "t.csv").write_text(HEADER + GOOD + "a/0.png,a,test\n")
    spec = replace(look_at(place / "own" / "t.csv").spec(), held_out=0.2, proxy=2, validation=2)
    with pytest.raises(InputError, match="held_out is for tables without a test split; got rows of 'test'"):
        load_search_data(spec, COLOUR, place / "own")


def test_a_task_is_put_on_other_images(place: Path) -> None:
    """Relative to the data directory, if there is one and it holds them."""
    (place / "own" / "t.csv").write_text(HEADER + GOOD)
    found = look_at(Path("own/t.csv"))
    task, folder = Task.load("digits").on_data(found)
    assert (task.name, task.data.source, task.data.root, folder) == ("t", "csv", "t.csv", str(place / "own"))
    assert (task.data.proxy, task.data.held_out, task.data.scarce) == (Task.load("digits").data.proxy, 0.2, True)
    assert task.backbone == Task.load("digits").backbone
    assert Task.from_dict(task.to_dict()) == task
    assert Task.load("digits").on_data(found, ".")[0].data.root == "own/t.csv"
    assert Task.load("digits").on_data(found, "elsewhere")[0].data.root == str(place / "own" / "t.csv")
