"""Tables of images as users have them: a CSV, Parquet files, and images that were given from Python and decoded."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.errors import UTuningError
from utuning_search.data.decoding import UNREADABLE
from utuning_search.data.given import IMAGES, own_data
from utuning_search.data.loading import check_test_data, load_search_data, write_given
from utuning_search.data.looking import look_at
from utuning_search.data.parquet import ParquetTable
from utuning_search.data.permit import TestPermit
from utuning_search.data.spec import STORED, DataSpec

from .mutations import ODD_NUMBERS, ODD_TEXTS, Draw, mutated_bytes, mutated_text
from .parser import Parser

CLASSES, EACH = ("ant", "bee"), 6
FOOT = 700  # bytes at the end of a Parquet file, where it says what it holds
GREY = Preprocessing(8, 1, (0.5,), (0.5,), "bilinear")


def own_images(root: Path, work: Path) -> dict[str, Parser]:
    """Parsers of a user's own images but for folders, which have no format; `root` gets valid ones."""
    files = _files(root)
    table = (
        "path,label,split\n" + "".join(f"{n},{n.split('/')[0]},{_split(i)}\n" for i, n in enumerate(files))
    ).encode()
    (root / "x.parquet").write_bytes(
        _parquet([(root / n).read_bytes() for n in files], [i % 2 for i in range(len(files))])
    )
    shards = (root / "x.parquet").read_bytes()
    shutil.copytree(root, work / "own", dirs_exist_ok=True)
    pixels = np.stack([_noise(i) for i in range(2 * EACH)])
    write_given(own_data((pixels, [CLASSES[i % 2] for i in range(2 * EACH)])), work / IMAGES, GREY)
    about = (work / IMAGES / "about.safetensors").read_bytes()
    spec = DataSpec(STORED, str(IMAGES), proxy=4, validation=2, held_out=0.2, scarce=True)

    def read_csv(content: bytes) -> None:
        (work / "own" / "t.csv").write_bytes(content)
        _read(work / "own" / "t.csv")

    def read_parquet(content: bytes) -> None:
        place = work / "own" / "x.parquet"
        place.write_bytes(content)
        found = ParquetTable(place)
        for row in range(min(len(found.names), 3)):
            with contextlib.suppress(*UNREADABLE):  # which is counted, and named
                found.open(row).load()
        _read(place)

    def read_given(content: bytes) -> None:
        (work / IMAGES / "about.safetensors").write_bytes(content)
        load_search_data(spec, GREY, work)

    return {
        "CSV": Parser(lambda draw: _csv(draw, table), read_csv),
        "Parquet": Parser(lambda draw: _shard(draw, shards), read_parquet),
        "images given": Parser(lambda draw: _about(draw, about), read_given),
    }


def _read(place: Path) -> None:
    found = look_at(place)
    list(found.notes()), found.name, found.named
    spec = found.spec()
    with contextlib.suppress(UTuningError):  # too few images, or too many that cannot be read
        data = load_search_data(DataSpec(**{**vars(spec), "proxy": 4, "validation": 2}), GREY, place.parent)
        check_test_data(spec, GREY, data, place.parent, permit=TestPermit())


def _noise(i: int) -> Any:
    return np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)


def _split(i: int) -> str:
    return ("train", "train", "train", "validation", "test")[i // 2 % 5]


def _files(root: Path) -> list[str]:
    names = [f"{CLASSES[i % 2]}/{i}.png" for i in range(2 * EACH)]
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_noise(i)).save(root / name)
    return names


def _parquet(contents: list[Any], labels: list[Any], about: object = None) -> bytes:
    """As Hugging Face lays it out, with the names of the classes."""
    features = {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    image = pa.array(
        [{"bytes": c, "path": None} for c in contents], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )
    made = pa.table({"image": image, "label": pa.array(labels)})
    said = {"info": {"features": features}} if about is None else about
    out = io.BytesIO()
    pq.write_table(made.replace_schema_metadata({"huggingface": json.dumps(said)}), out, row_group_size=5)
    return out.getvalue()


def _csv(draw: Draw, content: bytes) -> bytes:
    kind = draw.random()
    if kind < 0.2:
        return mutated_bytes(draw, content)
    text = content.decode()
    if kind < 0.6:
        return mutated_text(draw, text).encode("utf-8", "surrogatepass")
    rows = [line.split(",") for line in text.splitlines()]
    for _ in range(draw.randint(1, 4)):
        row = draw.choice(rows)
        odd = draw.choice((*ODD_TEXTS, *map(str, ODD_NUMBERS), "train", "test", "ant/0.png", '"', '"a,b"', ";", "\t"))
        row[draw.randrange(len(row))] = odd
    return "\n".join(draw.choice((",", ",", ",", ";")).join(row) for row in rows).encode("utf-8", "surrogatepass")


def _shard(draw: Draw, content: bytes) -> bytes:
    """Bytes changed, half of them at the end; or other columns in a sound file."""
    if draw.random() < 0.5:
        return mutated_bytes(draw, content[::-1], FOOT)[::-1]
    count = draw.randrange(12)
    kinds: tuple[Any, ...] = (
        lambda: draw.choice((0, 1, 1, 2, -1, -2, None, 2**62)),
        lambda: draw.choice((None, *ODD_TEXTS)).encode("utf-8", "ignore").decode() if draw.random() < 0.9 else "",
        lambda: draw.random(),
        lambda: draw.choice((True, False, None)),
        lambda: draw.choice((b"a", b"\xff\xfe", b"")),
        lambda: [1],
    )
    make = draw.choice(kinds)
    images = [draw.choice((None, b"", b"no image", b"\x89PNG\r\n\x1a\n", content[:80])) for _ in range(count)]
    known = {"info": {"features": {"label": {"names": draw.choice((list(CLASSES), ["a", 1], "ab", None, [""], {}))}}}}
    try:
        return _parquet(images, [make() for _ in range(count)], draw.choice((None, known, [], 5, "x", {"info": []})))
    except (pa.ArrowException, AttributeError, UnicodeError):  # which no file can hold
        return mutated_bytes(draw, content[::-1], FOOT)[::-1]


def _about(draw: Draw, content: bytes) -> bytes:
    """The head of a safetensors file is JSON, in which there is JSON."""
    size = int.from_bytes(content[:8], "little")
    if draw.random() < 0.4:
        return mutated_bytes(draw, content, size)
    head = mutated_text(draw, content[8 : 8 + size].decode()).encode("utf-8", "surrogatepass")
    return len(head).to_bytes(8, "little") + head + content[8 + size :]
