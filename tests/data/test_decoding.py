"""What a user's pictures really say: which way up, on which ground, how bright; and the net below all of it."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import InputError
from utuning_search.data.decoded import SearchData
from utuning_search.data.decoding import Decoder, Decoding
from utuning_search.data.loading import load_final_data, load_search_data
from utuning_search.data.permit import TestPermit
from utuning_search.data.pictures import read_pictures
from utuning_search.data.pixels import UnreadableError, read_file, to_tensor
from utuning_search.data.spec import DataSpec
from utuning_search.designs.design import Design
from utuning_search.results.classifier import TunedClassifier
from utuning_search.testing.models import IMAGE, tiny_vit

COLOUR = Preprocessing(8, 3, (0.5,) * 3, (0.5,) * 3, "nearest")
GREY = Preprocessing(8, 1, (0.5,), (0.5,), "nearest")
FOLDER = DataSpec("imagefolder", "photos", proxy=8, validation=4)
EACH = 6  # training images a class
ORIENTED: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # how a file of each tag stores a picture
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, *range(2, a.ndim)),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, *range(2, a.ndim)),
    8: lambda a: np.rot90(a, -1),
}


def noise(seed: int, channels: int = 3, top: int = 255, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top + 1, (8, 8, channels)).astype(dtype).squeeze()


def photos(root: Path, make: Callable[[int], Image.Image | bytes], suffix: str = "png") -> Path:
    """Two classes of six training and two test images, made of their numbers 0 to 15."""
    for i in range(2 * (EACH + 2)):
        split = "train" if i < 2 * EACH else "test"
        path = root / "photos" / split / "ab"[i % 2] / f"{i:02d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        made = make(i)
        path.write_bytes(made) if isinstance(made, bytes) else made.save(path)
    return root


def load(root: Path, preprocessing: Preprocessing = GREY) -> SearchData:
    return load_search_data(FOLDER, preprocessing, root)


def by_number(data: SearchData) -> dict[int, np.ndarray]:
    """Images by their number: (size, size), or (size, size, 3)."""
    found = {}
    for split in (data.proxy, data.validation):
        for name, image in zip(split.names, split.images, strict=True):
            found[int(Path(name).stem)] = image.permute(1, 2, 0).numpy().squeeze()
    return found


def deep_png(samples: np.ndarray, clear: tuple[int, ...] = ()) -> bytes:
    """A PNG of 16 bits a sample, (height, width, 1 to 4), which Pillow cannot write; `clear` are transparent ones."""

    height, width, channels = samples.shape
    rows = samples.astype(">u2").tobytes()
    return png_of(width, height, 16, (0, 4, 2, 6)[channels - 1], rows, clear)


def png_of(width: int, height: int, bits: int, colour: int, rows: bytes, clear: tuple[int, ...] = ()) -> bytes:
    """A PNG of so many bits a sample and of a kind of colour, by the numbers of its header."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    size = len(rows) // height
    filtered = b"".join(b"\0" + rows[i : i + size] for i in range(0, len(rows), size))
    hidden = chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear)) if clear else b""
    content = chunk(b"IHDR", header) + hidden + chunk(b"IDAT", zlib.compress(filtered)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


# Orientation


@pytest.mark.parametrize("tag", ORIENTED)
@pytest.mark.parametrize(
    "kind", ["rgb.png", "rgb.tif", "rgb.webp", "rgb.jpg", "rgba.png", "grey.png", "deep.png", "deep.tif"]
)
def test_a_picture_is_turned_as_its_exif_says(tag: int, kind: str, tmp_path: Path) -> None:
    """Of every kind of file and samples, and counted."""
    samples, suffix = kind.split(".")
    wanted = noise(tag, 3 if samples.startswith("rgb") else 1)
    stored = np.dstack([wanted, np.full((8, 8), 255, np.uint8)]) if samples == "rgba" else wanted
    stored = stored.astype(np.uint16) * 257 if samples == "deep" else stored
    exif = Image.Exif()
    exif[0x0112] = tag
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(np.ascontiguousarray(ORIENTED[tag](stored))).save(path, exif=exif, **options)
    decoder = Decoder()
    found = read_file(path, COLOUR, decoder).permute(1, 2, 0).numpy()
    difference = found.astype(int) - (wanted if wanted.ndim == 3 else wanted[..., None])
    assert np.abs(difference).max() <= (8 if suffix == "jpg" else 0)
    assert list(decoder.met["turned"]) == [str(path)]


@pytest.mark.parametrize("tag", [0, 1, 9, 77])
def test_a_picture_that_is_upright_is_left_alone(tag: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(noise(1)).save(tmp_path / "x.png", exif=exif)
    decoder = Decoder()
    assert np.array_equal(read_file(tmp_path / "x.png", COLOUR, decoder).permute(1, 2, 0), noise(1))
    assert decoder.met == {}


def test_damaged_exif_does_not_cost_a_picture(tmp_path: Path) -> None:
    for content in (
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0",
        b"\0" * 40,
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01",
    ):
        Image.fromarray(noise(1)).save(tmp_path / "x.png", exif=content)
        assert np.array_equal(read_file(tmp_path / "x.png", COLOUR).permute(1, 2, 0), noise(1))


# A tag, its type and number of values, of which Pillow writes none again: words for a size, a fraction for words.
ODD_TAGS = [(0x0100, 2, 1), (0x010E, 5, 1), (0x0132, 5, 2), (0x0100, 5, 1)]


@pytest.mark.parametrize(("tag", "kind", "count"), ODD_TAGS)
def test_a_picture_is_turned_whatever_its_other_tags_hold(tag: int, kind: int, count: int, tmp_path: Path) -> None:
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, 3, 0) + struct.pack("<HHII", tag, kind, count, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + struct.pack("<I", 0)
    for suffix in ("png", "webp"):
        path = tmp_path / f"x.{suffix}"
        options = {"lossless": True} if suffix == "webp" else {}
        Image.fromarray(np.ascontiguousarray(noise(1)[::-1, ::-1])).save(path, exif=exif, **options)
        assert np.array_equal(read_file(path, COLOUR).permute(1, 2, 0), noise(1))


def test_a_tiff_is_turned_whatever_its_other_tags_hold(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 3, "a picture"
    path = tmp_path / "x.tif"
    Image.fromarray(np.ascontiguousarray(noise(1)[::-1, ::-1])).save(path, exif=exif)
    before, after = struct.pack("<HHI", 0x010E, 2, 10), struct.pack("<HHI", 0x010E, 5, 1)
    assert before in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(before, after))
    assert np.array_equal(read_file(path, COLOUR).permute(1, 2, 0), noise(1))


@pytest.mark.parametrize("error", [struct.error("no integer"), AttributeError("encode"), KeyError(0x8769)])
def test_whatever_is_raised_of_damaged_metadata_costs_one_picture(error: Exception) -> None:
    def broken(raised: Exception) -> Callable[[], Image.Image]:
        picture = Image.new("RGB", (8, 8))
        picture.load = lambda: (_ for _ in ()).throw(raised)  # type: ignore[method-assign]  # as a file's may do
        return lambda: picture

    with pytest.raises(UnreadableError, match=type(error).__name__):
        to_tensor(broken(error), COLOUR)
    with pytest.raises(MemoryError):
        to_tensor(broken(MemoryError()), COLOUR)


def test_a_search_finals_and_use_turn_pictures_alike(tmp_path: Path) -> None:
    """Half of the files are stored upside down; all images are as if none were."""
    exif = Image.Exif()
    exif[0x0112] = 3

    def make(upside_down: bool) -> Callable[[int], bytes]:
        def one(i: int) -> bytes:
            path = tmp_path / "one.png"
            stored = noise(i)[::-1, ::-1] if upside_down and i % 4 > 1 else noise(i)
            options = {"exif": exif} if upside_down and i % 4 > 1 else {}
            Image.fromarray(np.ascontiguousarray(stored)).save(path, **options)
            return path.read_bytes()

        return one

    upright, mixed = (photos(tmp_path / str(turned), make(turned)) for turned in (False, True))
    searched, plain = load(mixed, COLOUR), load(upright, COLOUR)
    assert searched.digest == plain.digest
    assert "6 images are (" not in "".join(plain.notes)
    assert any(n.startswith("6 images are (train/") and "turned upright" in n for n in searched.notes)
    finals = [load_final_data(FOLDER, COLOUR, root, permit=TestPermit()) for root in (mixed, upright)]
    assert finals[0].digest == finals[1].digest
    used = read_pictures([mixed / "photos" / n for n in finals[0].test.names], COLOUR, searched.decoding)
    assert torch.equal(used, finals[0].test.images)


# Transparency


def icon(shape: int, ink: tuple[int, int, int], mode: str) -> Image.Image:
    """A bar on nothing, at one of eight places; what is transparent is black, as most programs leave it."""
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    picture.paste((*ink, 255), (shape % 8, 0, shape % 8 + 1, 8))
    if mode != "P":
        return picture.convert(mode)
    indexed = Image.new("P", (8, 8), 0)
    indexed.putpalette([0, 0, 0, *ink])
    indexed.paste(1, (shape % 8, 0, shape % 8 + 1, 8))
    indexed.info["transparency"] = 0
    return indexed


@pytest.mark.parametrize("preprocessing", [COLOUR, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize(("ink", "ground"), [(0, 255), (255, 0), (128, 255)])
def test_icons_are_put_on_a_ground_on_which_they_are_seen(
    ink: int, ground: int, mode: str, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    data = load(photos(tmp_path, lambda i: icon(i, (ink,) * 3, mode)), preprocessing)
    assert data.decoding == Decoding(ground)
    for number, image in by_number(data).items():
        assert (image[:, number % 8] == ink).all()
        assert (np.delete(image, number % 8, axis=1) == ground).all()
    (said,) = (n for n in data.notes if "transparent" in n)
    assert f"put on {'white' if ground else 'black'}" in said
    assert said.startswith("12 images")


def test_black_and_white_icons_are_put_on_grey(tmp_path: Path) -> None:
    data = load(photos(tmp_path, lambda i: icon(i, ((i % 2) * 255,) * 3, "RGBA")))
    assert data.decoding == Decoding(128)
    assert not [n for n in data.notes if "single colour" in n]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_may_name_what_is_transparent(bits: int, tmp_path: Path) -> None:
    """A number of as many bits, which Pillow leaves as it is where it makes 8 of the samples."""
    row = ((1 << 4 * bits) - 1).to_bytes(bits, "big")  # half black, half white
    for clear, ground in (((1 << bits) - 1, 255), (0, 0)):
        data = load(photos(tmp_path / str(clear), lambda _, clear=clear: png_of(8, 8, bits, 0, row * 8, (clear,))))
        assert data.decoding == Decoding(ground)
        assert any("transparent in part" in note for note in data.notes)


def test_half_transparent_is_mixed(tmp_path: Path) -> None:
    pixels = np.dstack([np.full((8, 8, 3), 100, np.uint8), np.full((8, 8), 51, np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert read_file(tmp_path / "x.png", COLOUR).unique().tolist() == [224]  # a fifth of 100 on white


def test_an_opaque_alpha_channel_changes_nothing(tmp_path: Path) -> None:
    def make(i: int) -> Image.Image:
        return Image.fromarray(np.dstack([noise(i), np.full((8, 8), 255, np.uint8)]))

    opaque = load(photos(tmp_path / "alpha", make), COLOUR)
    plain = load(photos(tmp_path / "plain", lambda i: Image.fromarray(noise(i))), COLOUR)
    assert (opaque.digest, opaque.notes, opaque.decoding) == (plain.digest, (), Decoding())


# Samples of more than 8 bits

CASES = {
    "10-bit.png": (1023, "uint16", lambda v: v >> 2, (0.0, 1023.0)),
    "12-bit.tif": (4095, "uint16", lambda v: v >> 4, (0.0, 4095.0)),
    "16-bit.png": (65535, "uint16", lambda v: v >> 8, (0.0, 65535.0)),
    "one-bit.png": (1, "uint16", lambda v: v * 255, (0.0, 1.0)),
    "32-bit.tif": ((1 << 20) - 1, "int32", lambda v: v >> 12, (0.0, float((1 << 20) - 1))),
    "unit.tif": (1, "float32", lambda v: np.rint(v * 255), (0.0, 1.0)),
    "byte.tif": (255, "float32", lambda v: np.rint(v), (0.0, 255.0)),
    "signed.tif": (-1, "float32", lambda v: np.rint((v + 1) * 127.5), (-1.0, 1.0)),
}


def deep(case: str, i: int) -> np.ndarray:
    top, dtype, _, _ = CASES[case]
    if dtype != "float32":
        values = noise(i, 1, top, dtype)
        values[0, 0] = top  # so that each data set has its largest number
        return values
    random = np.random.default_rng(i)
    return random.uniform(-1, 1, (8, 8)).astype(dtype) if top < 0 else (random.random((8, 8)) * top).astype(dtype)


@pytest.mark.parametrize("case", CASES)
def test_deep_samples_are_scaled_by_the_range_of_the_data_set(case: str, tmp_path: Path) -> None:
    """Not of each picture: of these every fourth is darker, and stays so."""
    _, dtype, expected, limits = CASES[case]
    whole = not dtype.startswith("float")

    def values(i: int) -> np.ndarray:
        dim = 1 if i % 4 else 8
        return deep(case, i) // dim if whole else deep(case, i) / np.float32(dim)

    root = photos(tmp_path, lambda i: Image.fromarray(values(i)), case.split(".")[1])
    data = load(root)
    assert list(data.decoding.ranges.values()) == [limits]
    for number, image in by_number(data).items():
        wanted = expected(values(number).astype(np.int64) if whole else values(number))
        assert np.abs(image - wanted).max() <= 1
    assert any("become 0 to 255" in n for n in data.notes)
    finals = load_final_data(FOLDER, GREY, root, permit=TestPermit())
    assert finals.decoding == data.decoding
    used = read_pictures([root / "photos" / n for n in finals.test.names], GREY, data.decoding)
    assert torch.equal(used, finals.test.images)


@pytest.mark.parametrize("channels", [3, 4])
def test_deep_colours_keep_their_lower_bits(channels: int, tmp_path: Path) -> None:
    """Of which Pillow throws half away: of 10 bits it would leave 2."""

    def make(i: int) -> bytes:
        samples = noise(i, 3, 1023, "uint16")
        samples[0, 0] = 1023
        full = np.full((8, 8, 1), 65535, np.uint16)
        return deep_png(np.concatenate([samples, full], axis=2) if channels == 4 else samples)

    data = load(photos(tmp_path, make), COLOUR)
    assert data.decoding.ranges == {"16-bit colour": (0.0, 1023.0)}
    for number, image in by_number(data).items():
        wanted = noise(number, 3, 1023, "uint16")
        assert np.array_equal(image[1:], wanted[1:] >> 2)


def test_deep_grey_with_opacity_keeps_its_lower_bits_too(tmp_path: Path) -> None:
    """Of which Pillow has no layout for the lower ones."""

    def make(i: int) -> bytes:
        samples = noise(i, 1, 1023, "uint16")
        samples[0, 0] = 1023
        return deep_png(np.dstack([samples, np.where(np.arange(64).reshape(8, 8) < 32, 65535, 0).astype(np.uint16)]))

    data = load(photos(tmp_path, make))
    assert data.decoding == Decoding(255, {"16-bit colour": (0.0, 1023.0)})
    for number, image in by_number(data).items():
        wanted = noise(number, 1, 1023, "uint16") >> 2
        assert np.array_equal(image[1:4], wanted[1:4])
        assert (image[4:] == 255).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_deep_samples_that_stand_for_nothing_are_transparent(channels: int, tmp_path: Path) -> None:
    """As a PNG names them where it has no channel for it."""

    def make(i: int) -> bytes:
        samples = noise(i, channels, 1023, "uint16").reshape(8, 8, channels)
        samples[0, 0], samples[4:] = 1023, 7
        return deep_png(samples, (7,) * channels)

    data = load(photos(tmp_path, make))
    assert (data.decoding.background, list(data.decoding.ranges.values())) == (255, [(0.0, 1023.0)])
    assert any("put on white" in note for note in data.notes)
    for image in by_number(data).values():
        assert (image[4:] == 255).all()
        assert len(np.unique(image[:4])) > 8


def test_whole_numbers_without_a_sign_are_not_below_zero(tmp_path: Path) -> None:
    """Pillow takes the upper half of them for negative."""
    signed, unsigned = (struct.pack("<HHIHH", 339, 3, 1, kind, 0) for kind in (2, 1))

    def make(i: int) -> bytes:
        path = tmp_path / "one.tif"
        values = np.linspace(i << 20, 2**32 - 1, 64).astype(np.uint32).reshape(8, 8)
        Image.fromarray(values.view(np.int32)).save(path)
        assert signed in path.read_bytes()
        return path.read_bytes().replace(signed, unsigned)

    data = load(photos(tmp_path, make, "tif"))
    assert data.decoding.ranges == {"integer": (0.0, float(2**32 - 1))}
    for image in by_number(data).values():
        assert (np.diff(image.flatten().astype(int)) >= 0).all()
        assert image[-1, -1] == 255


@pytest.mark.parametrize(("dtype", "top"), [("uint16", 1023), ("float32", 1)])
def test_a_negative_of_deep_samples_is_turned(dtype: str, top: int, tmp_path: Path) -> None:
    """A TIFF may say that 0 is white; Pillow heeds that of 8 bits only."""
    black, white = (struct.pack("<HHIHH", 262, 3, 1, kind, 0) for kind in (1, 0))

    def make(i: int) -> bytes:
        path = tmp_path / "one.tif"
        values = np.linspace(0, top, 64).reshape(8, 8).astype(dtype)
        Image.fromarray(values).save(path)
        assert black in path.read_bytes()
        return path.read_bytes().replace(black, white) if i % 2 else path.read_bytes()

    for number, image in by_number(load(photos(tmp_path, make, "tif"))).items():
        assert (image[0, 0], image[-1, -1]) == ((255, 0) if number % 2 else (0, 255))


def test_upper_halves_are_said_where_lower_ones_cannot_be_had(tmp_path: Path) -> None:
    """As of 16-bit CMYK, made of one of 8 bits with as many bytes."""
    path = tmp_path / "x.tif"
    Image.fromarray(noise(1, 1).repeat(8, axis=1).reshape(8, 16, 4), "CMYK").save(path)
    decoder = Decoder()
    read_file(path, COLOUR, decoder)
    assert list(decoder.notes()) == []
    content = path.read_bytes()
    for kind in (3, 4):  # of the number that says the width
        width = struct.pack("<HHI", 256, kind, 1)
        content = content.replace(width + struct.pack("<I", 16), width + struct.pack("<I", 8))
    path.write_bytes(content.replace(struct.pack("<4H", *[8] * 4), struct.pack("<4H", *[16] * 4)))
    read_file(path, COLOUR, decoder, "x.tif")
    assert list(decoder.notes()) == ["1 image is (x.tif) of 16-bit samples that are read as 8 bits, the upper halves."]


def test_what_is_no_number_is_dark_and_what_lies_beyond_is_cut_off(tmp_path: Path) -> None:
    values = np.linspace(-1, 2, 64, dtype=np.float32).reshape(8, 8)
    values[0, 0], values[0, 1], values[0, 2] = np.nan, np.inf, -np.inf
    Image.fromarray(values).save(tmp_path / "x.tif")
    decoder = Decoder(Decoding(ranges={"float": (0.0, 1.0)}))
    image = read_file(tmp_path / "x.tif", GREY, decoder)[0].numpy()
    assert image[0, :3].tolist() == [0, 255, 0]
    assert (image[-1] == 255).all()


# The net


def test_images_of_one_colour_and_classes_of_equal_images_are_named(tmp_path: Path) -> None:
    black = Image.new("RGB", (8, 8))
    notes = load(photos(tmp_path / "black", lambda i: Image.fromarray(noise(i)) if i % 2 else black), COLOUR).notes
    assert any(n.startswith("6 of 12 images are of a single colour") and "train/a/" in n for n in notes)
    assert any("class 'a': all its 6 images are equal" in n for n in notes)
    notes = load(photos(tmp_path / "same", lambda i: Image.fromarray(noise(i if i % 2 else 0))), COLOUR).notes
    assert [n for n in notes if "all its" in n] == ["class 'a': all its 6 images are equal once decoded."]
    assert load(photos(tmp_path / "fine", lambda i: Image.fromarray(noise(i))), COLOUR).notes == ()


def test_the_first_picture_of_several_is_taken_and_said(tmp_path: Path) -> None:
    def make(suffix: str) -> Callable[[int], bytes]:
        def one(i: int) -> bytes:
            path = tmp_path / f"one.{suffix}"
            first, second = (Image.fromarray(noise(n, 1)) for n in (i, i + 100))
            options = {"lossless": True} if suffix == "webp" else {}
            first.save(path, save_all=True, append_images=[second], **options)
            return path.read_bytes()

        return one

    for suffix in ("gif", "tif", "webp", "png"):
        root = photos(tmp_path / suffix, make(suffix), suffix)
        data = load(root)
        for number, image in by_number(data).items():
            assert np.array_equal(image, noise(number, 1)), suffix
        assert any("12 images are" in n and "only the first picture" in n for n in data.notes), suffix


# In use


@pytest.fixture(scope="module")
def tuner() -> TunedClassifier:
    model = TunedModel(tiny_vit(), Design(), 2)
    preprocessing = Preprocessing(IMAGE, 3, (0.5,) * 3, (0.5,) * 3, "bicubic")
    return TunedClassifier(model, preprocessing, ("a", "b"), Decoding(0, {"float": (0.0, 2.0)})).eval()


def test_a_tuner_reads_files_and_pictures_as_its_data_was_read(tuner: TunedClassifier, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(1)).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    icon(2, (255,) * 3, "RGBA").save(tmp_path / "icon.png")
    Image.fromarray(np.full((8, 8), 1, np.float32)).save(tmp_path / "float.tif")
    (tmp_path / "deep.png").write_bytes(deep_png(noise(3, 3, 1023, "uint16")))
    paths = sorted(tmp_path.iterdir())
    decoder = Decoder(tuner.decoding)
    wanted = torch.stack([read_file(p, tuner.preprocessing, decoder) for p in paths])
    names = [p.name for p in paths]
    assert wanted[names.index("float.tif")].unique().tolist() == [128]  # half of the range it was trained on
    assert wanted[names.index("icon.png")].amin() == 0
    with contextlib.ExitStack() as stack:
        pictures = [stack.enter_context(Image.open(p)) for p in paths]
        streams = [stack.enter_context(Image.open(io.BytesIO(p.read_bytes()))) for p in paths]
        for given in (paths, map(str, paths), streams, streams, pictures, pictures):
            assert torch.equal(tuner.preprocess(given), tuner.preprocess(wanted))
    assert torch.equal(tuner.preprocess(paths[0]), tuner.preprocess(wanted[:1]))
    assert torch.equal(tuner.preprocess(str(paths[0])), tuner.preprocess(wanted[:1]))
    assert tuner(tuner.preprocess(paths)).shape == (len(paths), 2)


def test_a_tuner_says_what_it_cannot_read(tuner: TunedClassifier, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"no image")
    for path, said in (
        ("torn.png", "no image of a known format"),
        ("nowhere.png", "No such file"),
        (".", "no regular"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            tuner.preprocess([tmp_path / path])
        assert str(caught.value).startswith(f"image {tmp_path / path}: it can be read; got ")
        assert "\n" not in str(caught.value)


def test_a_decoding_survives_its_table() -> None:
    for decoding in (
        Decoding(),
        Decoding(128),
        Decoding(None, {"float": (-1.0, 1.0)}),
        Decoding(0, {"16-bit": (0, 1023)}),
    ):
        assert Decoding.from_dict(decoding.to_dict()) == decoding
    assert Decoding().to_dict() == {}
    assert replace(Decoding(), background=0).to_dict() == {"background": 0}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"background": 999}, "background is a grey level, 0 to 255; got 999"),
        ({"background": 1.5}, "background is a grey level, 0 to 255; got 1.5"),
        ({"background": True}, "background is a grey level, 0 to 255; got True"),
        ({"backgroud": 0}, "only known keys are allowed; got 'backgroud'. Did you mean 'background'?"),
        ({"ranges": {"16bit": [0, 1]}}, "only known keys are allowed; got '16bit'. Did you mean '16-bit'?"),
        (
            {"ranges": {"float": [1, 0]}},
            "a range is of two finite numbers, the smaller one first; got float: (1.0, 0.0)",
        ),
        ({"ranges": {"float": [float("nan"), 1]}}, "a range is of two finite numbers"),
        ({"ranges": {"float": [0, float("inf")]}}, "a range is of two finite numbers"),
        ({"ranges": {"float": [0]}}, "it says how pictures are read; got ValueError"),
        ({"ranges": 3}, "it says how pictures are read; got AttributeError"),
    ],
)
def test_a_decoding_that_somebody_changed_is_refused(table: dict[str, object], said: str) -> None:
    """As of an export: pictures would be read in another way, and nobody would see it."""
    with pytest.raises(InputError) as caught:
        Decoding.from_dict(table)
    assert said in str(caught.value)
    assert str(caught.value).startswith("decoding")
