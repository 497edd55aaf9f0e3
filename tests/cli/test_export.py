"""`export`: a trial by words, a folder that is free, and lines that run."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from utuning_search.training.context import load_search
from utuning_search.training.task import Task

from .commands import INLINE, TRIALS, refused, rows, succeeded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export", "smoke-tiny", "--pick", "worst"), "--pick: pick is best, knee"),
        (("export", "smoke-tiny", "--pick", "trial=99"), "got '99'"),
        (("export", "smoke-tiny", "--pick", "max-params=5"), "the smallest has 650"),
        (("export", "smoke-tiny", "--out", "tiny.toml"), "folder tiny.toml: it can be created and written"),
        (("export", "smoke-tiny", "--out", "tiny.toml/x"), "folder tiny.toml/x: it can be created and written"),
    ],
)
@pytest.mark.usefixtures("studied")
def test_what_cannot_be_exported_is_refused(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(*arguments)


def test_the_commands_and_lines_that_are_offered_run(studied: Path, finished: tuple[Path, str]) -> None:
    offered = re.findall(r"^  utuning-search (.*)$", finished[1], flags=re.MULTILINE)
    assert [line.split()[0] for line in offered] == ["confirm", "export", "front", "resume"]
    out = succeeded(*shlex.split(offered[1]))
    folder = next((studied / "studies" / "smoke-tiny" / "exports").iterdir())
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "tuner.safetensors", "tuner.toml"]
    code, command = re.split(r"^(?=utuning-search predict )", out, flags=re.MULTILINE)
    code = code[code.index("from utuning_search import load_tuned") :]
    data = load_search(Task.load("tiny.toml"), None).data.validation
    Image.fromarray(data.images[0, 0].numpy()).save("photo.jpg", format="png")  # JPEG would change pixels
    names: dict[str, Any] = {}
    exec(code, names)  # what a user is told to type
    logits = names["model"](names["model"].preprocess(data.images))
    assert torch.allclose(names["found"].probabilities, logits[:1].softmax(dim=1), atol=1e-5)
    assert names["found"].names[0] in succeeded(*shlex.split(command)[1:])
    accuracy = float((logits.argmax(dim=1) == data.labels).float().mean())
    assert f"{100 * accuracy:.2f}% validation accuracy" in out
    assert "it holds no exported tuner yet" in refused(*shlex.split(offered[1]))
    succeeded(*shlex.split(offered[2]))
    succeeded(*shlex.split(offered[3].replace(str(2 * TRIALS), str(TRIALS + 1))), *INLINE)
    assert len(rows("studies/smoke-tiny/trials.csv")) == TRIALS + 1


@pytest.mark.usefixtures("studied")
def test_export_picks_and_places() -> None:
    best = rows("studies/smoke-tiny/front.csv")[-1]
    assert f"Trial {best['trial']}: " in succeeded("export", "smoke-tiny", "--pick", "best", "--out", "out/best")
    succeeded("export", "smoke-tiny", "--pick", "trial=0")
    assert Path("studies/smoke-tiny/exports/trial_0/tuner.toml").is_file()
    assert Path("out/best/tuner.toml").is_file()
