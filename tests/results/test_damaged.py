"""Files of finals that somebody changed: one line that names the file, whatever is in it."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from utuning_search.common.errors import StudyError
from utuning_search.results.outcomes import Outcome, keep_outcome, outcome_file, read_outcome
from utuning_search.results.predictions import LABELS, confidences_file, read_confidences, read_labels
from utuning_search.results.verdicts import kept_advice

OUTCOME = Outcome(
    key="0ce454fa1064",
    design={"placements": []},
    seed=0,
    epochs=1,
    augmented=True,
    data="0123456789ab",
    test_images=4,
    device="cpu",
    precision="fp32",
    accuracy=0.5,
    others={"macro_f1": 0.4},
)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    (tmp_path / "finals").mkdir()
    keep_outcome(tmp_path, OUTCOME)
    return outcome_file(tmp_path, OUTCOME.key, 1, True, 0)


def test_an_outcome_is_read_as_it_was_kept(kept: Path) -> None:
    assert read_outcome(kept) == OUTCOME
    kept.write_text(kept.read_text().replace("0.5", "null"))
    assert read_outcome(kept).accuracy is None
    older = {name: value for name, value in json.loads(kept.read_text()).items() if name != "decoding"}
    kept.write_text(json.dumps(older))
    assert read_outcome(kept).decoding is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accuracy": "0.5"}, "accuracy: this is of type float; got '0.5'"),
        ({"accuracy": 1.5}, "accuracy: accuracy is from 0 to 1; got 1.5"),
        ({"accuracy": float("nan")}, "accuracy: accuracy is from 0 to 1; got nan"),
        ({"seed": None}, "seed: this is of type int; got None"),
        ({"others": {"macro_f1": [1]}}, "others, macro_f1: this is of type float; got [1]"),
        ({"design": []}, "design: this is a table; got []"),
        ({"decoding": {"background": "white"}}, "decoding: background is a grey level, 0 to 255; got 'white'"),
        ({"later": 1}, "only known keys are allowed; got 'later'"),
    ],
)
def test_a_changed_outcome_is_refused(change: dict[str, Any], said: str, kept: Path) -> None:
    kept.write_text(json.dumps({**json.loads(kept.read_text()), **change}))
    with pytest.raises(StudyError) as refused:
        read_outcome(kept)
    assert str(refused.value).startswith(f"file {kept}: it is a finalist's outcome; got InputError: {kept.name}")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epochs": 10**400}, "0ce454fa1064_1000"),
        ({"seed": 1}, "0ce454fa1064_1epochs_seed1.json"),
        ({"augmented": False}, "0ce454fa1064_1epochs_plain_seed0.json"),
        ({"key": "../../other"}, "other_1epochs_seed0.json"),
        ({"key": "n" * 300}, "nnnn"),
    ],
)
def test_an_outcome_of_another_name_is_refused(change: dict[str, Any], named: str, kept: Path) -> None:
    """What lies beside it would be looked for by names that are another's, or that no file can have."""
    kept.write_text(json.dumps({**json.loads(kept.read_text()), **change}))
    with pytest.raises(StudyError, match=rf"it is a finalist's outcome; got that of {named}.*Remove it") as refused:
        read_outcome(kept)
    assert len(str(refused.value)) < len(str(kept)) + 250


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, "9" * 5000])
def test_an_outcome_of_no_table_is_refused(text: str, kept: Path) -> None:
    kept.write_text(text)
    with pytest.raises(StudyError, match="it is a finalist's outcome; got "):
        read_outcome(kept)


def npy(header: str) -> bytes:
    text = header.encode().ljust(118)
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def archive(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("arr_0.npy", content)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 no archive",
        archive(npy("{}")),
        npy("{'descr': '<u2', 'fortran_order': False, 'shape': (1000000000000000,)}"),
        npy("{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (2,)}"),
        npy("(" * 110),
        npy("{'descr': '<u2', 'fortran_order': False, 'shape': (2,\0)}"),
    ],
    ids=["nothing", "half an archive", "an archive", "too large", "records", "brackets", "zeros"],
)
def test_damaged_classes_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "finals").mkdir()
    (tmp_path / "finals" / LABELS).write_bytes(content)
    with pytest.raises(StudyError, match=rf"{LABELS}: it holds the number of a class for each test image; got "):
        read_labels(tmp_path)
    np.save(tmp_path / "finals" / LABELS, np.array([1, 2], dtype=np.uint16))
    assert read_labels(tmp_path) is not None
    confidences_file(tmp_path, OUTCOME).write_bytes(content)
    with pytest.raises(StudyError, match=r"it holds a probability for each test image; got .*finals then say nothing"):
        read_confidences(tmp_path, [OUTCOME])


@pytest.mark.parametrize(
    ("finals", "pairs"),
    [
        ("name\nx\n", ""),
        ("key,beaten_by\na\n", ""),
        ("key,beaten_by\na,x\n", "a_key,a\na,1\n"),
        ("key,beaten_by\na,x\n", "a_key,a,b_key,b,difference,low,high,p,p_corrected,verdict\na,A,b,B,?,0,0,,,worse\n"),
    ],
    ids=["no key", "half a line", "no columns", "no number"],
)
def test_changed_tables_are_refused(finals: str, pairs: str, tmp_path: Path) -> None:
    (tmp_path / "finals").mkdir()
    (tmp_path / "finals.csv").write_text(finals)
    (tmp_path / "finals" / "comparisons.csv").write_text(pairs)
    with pytest.raises(StudyError, match=r"finals\.csv and comparisons\.csv: they are as confirm wrote them; got "):
        kept_advice(tmp_path, "a")
