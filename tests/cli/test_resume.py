"""`resume`: another spec is refused with the difference, and what goes on is one study."""

from pathlib import Path

import pytest

from .commands import INLINE, PROMPT, RUN, TRIALS, refused, rows, succeeded


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--seed", "5"), "seed: 5 here, 0 there"),
        (("--sampler", "random"), "sampler: random here, ehvi there"),
        (("--space", "full"), "space."),
        (("--task", "digits"), "task.data.proxy: 800 here, 100 there"),
    ],
)
@pytest.mark.usefixtures("studied")
def test_resuming_with_another_spec_shows_the_difference(options: tuple[str, str], difference: str) -> None:
    found = refused("resume", "smoke-tiny", *INLINE, *options)
    assert "a study keeps its spec" in found
    assert difference in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trials", "0"), "--trials"),
        (("--time", "soon"), "--time"),
        (("--workers", "-2"), "--workers"),
        (("--trials", "9", "--device", "tpu"), "--device"),
        (("--trials", "9", "--sampler", "tp"), "--sampler"),
        (("--space", "ful"), "--space"),
    ],
)
@pytest.mark.usefixtures("studied")
def test_resume_refuses_what_run_refuses(options: tuple[str, ...], message: str) -> None:
    assert message in refused("resume", "smoke-tiny", *INLINE, *options)


@pytest.mark.usefixtures("studied")
def test_resume_goes_on_where_it_stopped() -> None:
    before = rows("studies/smoke-tiny/trials.csv")
    succeeded("resume", "smoke-tiny", *INLINE)  # its budget is spent
    assert rows("studies/smoke-tiny/trials.csv") == before
    succeeded("resume", "smoke-tiny", "--trials", str(TRIALS + 2), "--space", "smoke", "--seed", "0", *INLINE)
    after = rows("studies/smoke-tiny/trials.csv")
    assert len(after) == TRIALS + 2
    assert [{k: r[k] for k in before[0]} for r in after[:TRIALS]] == before


def test_resume_tries_failed_designs_again(place: Path) -> None:
    (place / "prompt.toml").write_text(PROMPT.replace('"none", {', "{").replace('"none", 1e38', "1e38"))
    succeeded(*RUN, "--space", "prompt.toml", "--trials", "1", "--quiet")
    (failed,) = rows("studies/prompt-tiny/trials.csv")
    succeeded("resume", "prompt-tiny", "--trials", "1", "-q", *INLINE)
    assert len(rows("studies/prompt-tiny/trials.csv")) == 1, "nobody asked for it"
    succeeded("resume", "prompt-tiny", "--retry-failed", "-q", *INLINE)
    before, again = rows("studies/prompt-tiny/trials.csv")
    assert (failed["state"], before["state"], again["state"]) == ("failed", "interrupted", "failed")
    assert before["key"] == again["key"] == failed["key"]
