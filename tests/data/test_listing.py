"""Which files are images of a class: each real file once, whatever links there are; and nothing is waited for."""

import os
import socket
from pathlib import Path

import pytest

from utuning_search.common.errors import DataError, InputError
from utuning_search.data.listing import class_folders, images_below
from utuning_search.data.survey import survey


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of three files; nobody decodes them."""
    for name in "ab":
        for i in range(3):
            path = tmp_path / "photos" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{name}{i}".encode())
    return tmp_path / "photos"


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in images_below(folder)]


THREE = ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("target", [".", "..", "../..", "../../photos/a", "loop", "../b/back"])
def test_links_in_a_circle_end(target: str, photos: Path) -> None:
    (photos / "b" / "back").symlink_to(photos / "a")
    (photos / "a" / "loop").symlink_to(target)
    assert names(photos / "a") == THREE


def test_folders_that_link_to_each_other_end(photos: Path) -> None:
    """Each has the other's images once, which is for the user to see; see `copies.py`."""
    (photos / "a" / "other").symlink_to(photos / "b")
    (photos / "b" / "other").symlink_to(photos / "a")
    assert names(photos / "a") == [*THREE, "other/0.png", "other/1.png", "other/2.png"]


def test_each_real_file_counts_once_and_by_its_own_name(photos: Path) -> None:
    a = photos / "a"
    (a / "00.png").symlink_to("2.png")
    (a / "3.png").symlink_to(a / "1.png")
    os.link(a / "0.png", a / "4.png")
    (a / "zoo").mkdir()
    (a / "again").symlink_to("zoo")
    (a / "zoo" / "x.png").write_bytes(b"x")
    assert names(a) == [*THREE, "zoo/x.png"]


def test_links_out_of_the_folder_are_followed(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "9.png").write_bytes(b"9")
    (photos / "a" / "more").symlink_to(tmp_path / "store")
    (photos / "a" / "9.png").symlink_to(tmp_path / "store" / "9.png")
    assert names(photos / "a") == [*THREE, "more/9.png"]
    (photos / "c").symlink_to(tmp_path / "store")
    assert names(photos / "c") == ["9.png"]


def test_pipes_and_sockets_are_left_out_and_links_to_nothing_are_not(photos: Path) -> None:
    a = photos / "a"
    os.mkfifo(a / "pipe.png")
    (a / "link.png").symlink_to("pipe.png")
    with socket.socket(socket.AF_UNIX) as endpoint:
        here = Path.cwd()
        os.chdir(a)  # a socket's path may not be long
        endpoint.bind("socket.png")
        os.chdir(here)
    (a / "device.png").symlink_to("/dev/zero")
    (a / "lost.png").symlink_to("nowhere.png")
    (a / "self.png").symlink_to("self.png")
    assert names(a) == [*THREE, "lost.png", "self.png"], "what is lost is named as unreadable"


def test_a_folder_that_is_not_there_has_no_images(photos: Path) -> None:
    assert images_below(photos / "nowhere") == []


def test_a_survey_of_a_folder_with_links_to_itself_ends(photos: Path) -> None:
    (photos / "a" / "up").symlink_to("..")
    (photos / "all").symlink_to(".")
    assert survey(photos).classes == {"a": 3, "b": 3}


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff\xfe"])
def test_a_class_that_no_export_can_name_is_refused(name: bytes, photos: Path) -> None:
    try:
        (photos / "b").rename(photos / os.fsdecode(name))
    except OSError:
        pytest.skip("this file system keeps names of UTF-8 only")
    with pytest.raises(DataError, match="names of classes are UTF-8") as caught:
        class_folders(photos)
    shown = name.decode("ascii", "backslashreplace")
    assert f"'{shown}'" in str(caught.value)
    str(caught.value).encode()


def test_a_folder_that_no_study_can_name_is_refused(photos: Path) -> None:
    odd = photos.with_name(os.fsdecode(b"f\xf6to"))
    try:
        photos.rename(odd)
    except OSError:
        pytest.skip("this file system keeps names of UTF-8 only")
    with pytest.raises(InputError, match=r"--data .*f\\xf6to: its path is UTF-8"):
        survey(odd)
