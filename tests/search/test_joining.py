"""A study that a database holds gets a folder on a machine that has none of it."""

from pathlib import Path

import pytest

from utuning_search.common.errors import StudyError
from utuning_search.search.joining import join
from utuning_search.search.layout import LOCAL, SPEC
from utuning_search.search.study import Study

from .hosts import SPACE, TASK


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def study(tmp_path: Path, url: str) -> Study:
    (tmp_path / "mini.toml").write_text(SPACE)
    (tmp_path / "tiny.toml").write_text(TASK.format(source="digits", proxy=100, validation=60))
    space, task = (str(tmp_path / f"{name}.toml") for name in ("mini", "tiny"))
    return Study.create(space, task, name="shared", studies_dir=tmp_path / "one", storage=url)


def test_the_folder_is_made_of_what_the_database_holds(study: Study, tmp_path: Path, url: str) -> None:
    there = tmp_path / "two" / "shared"
    join(there, url)
    assert (there / SPEC).read_text() == (study.folder / SPEC).read_text()
    joined = Study.load("shared", studies_dir=there.parent, storage=url)
    assert (joined.spec, joined.classes, joined.shape) == (study.spec, study.classes, study.shape)
    assert joined.local["owner"] != study.local["owner"], "each folder leases trials by a name of its own"
    before = (there / LOCAL).read_bytes()
    join(there, url)
    assert (there / LOCAL).read_bytes() == before, "another process of this folder made it, and runs"


@pytest.mark.usefixtures("study")
def test_a_study_that_is_not_there_leaves_no_folder(tmp_path: Path, url: str) -> None:
    with pytest.raises(StudyError, match=r"'other'; got others: shared\. Start one with: .*--name other"):
        join(tmp_path / "two" / "other", url)
    assert not (tmp_path / "two").exists()
