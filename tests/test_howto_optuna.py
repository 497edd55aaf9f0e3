"""What docs/how-to/optuna.md and logging.md say: command lines parse, snippets do what stands there."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from utuning_search import Callback
from utuning_search.cli.parser import make_parser
from utuning_search.search.callbacks.registry import LOGGERS

PAGES = {p: (Path(__file__).parents[1] / "docs/how-to" / f"{p}.md").read_text("utf-8") for p in ("optuna", "logging")}


def fenced(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_command_lines_parse(page: str) -> None:
    lines = [line.split("  #")[0].strip() for block in fenced(page, "sh") for line in block.splitlines()]
    commands = [shlex.split(line) for line in lines if line.startswith("utuning-search ")]
    assert len(commands) > 2
    for command in commands:
        arguments = make_parser().parse_args(command[1:])
        assert arguments.command == command[1]
        assert all(text.partition("=")[0] in LOGGERS for text in getattr(arguments, "log", ()))


def test_the_pruner_s_snippet_prunes() -> None:
    (code,) = [block for block in fenced("optuna", "python") if "ParetoRungs" in block]
    names: dict[str, Any] = {}
    exec(compile(code, "optuna.md", "exec"), names)
    assert {TrialState.COMPLETE, TrialState.PRUNED} == {t.state for t in names["study"].trials}


def test_the_callback_s_snippet_overrides_what_there_is() -> None:
    (code,) = [block for block in fenced("logging", "python") if "Callback" in block]
    (tell,) = [node for node in ast.parse(code).body if isinstance(node, ast.ClassDef)]
    events = {node.name: len(node.args.args) for node in tell.body if isinstance(node, ast.FunctionDef)}
    assert events == {name: getattr(Callback, name).__code__.co_argcount for name in events}
