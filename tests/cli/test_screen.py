"""What reaches a screen, a pipe or a shell: any letters in any encoding, nothing that acts on it, paths in quotes."""

import contextlib
import errno
import importlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from utuning_search.cli.console import PLAIN, console, listing
from utuning_search.cli.main import main
from utuning_search.cli.streams import _leave, accept_any_text, complain, say
from utuning_search.common.text import python_string, visible

from .commands import INLINE, SLOT, command, refused, succeeded

EVIL = "\x1b]0;owned\x07\x1b[2J\r\x9b1m\u202e\x7f"
MARKUP = "[/bold] [red]x[/] [link=x] :smile: [[]"


def piped(*arguments: str, encoding: str) -> str:
    """What a command writes to a pipe of an encoding, which has to be one that it can hold."""
    raw, errors = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(stream, encoding=encoding) for stream in (raw, errors))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
        out.flush()
        err.flush()
    assert (code, errors.getvalue()) == (0, b"")
    return raw.getvalue().decode(encoding)


def write_space(description: str, name: str = "own") -> str:
    Path(f"{name}.toml").write_text(
        SLOT.replace('name = "own"', f'name = "own"\ndescription = {json.dumps(description)}', 1), encoding="utf-8"
    )
    return f"{name}.toml"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.usefixtures("place")
def test_any_letter_goes_into_any_pipe(encoding: str) -> None:
    """Escapes stand for those that an encoding has not."""
    assert "fact" in piped("spaces", "full", encoding=encoding)
    shown = piped("spaces", write_space("Σ of 猫 and é"), encoding=encoding)
    wanted = {"ascii": r"\u03a3 of \u732b and \xe9", "cp1252": r"\u03a3 of \u732b and é", "utf-8": "Σ of 猫 and é"}
    assert wanted[encoding] in shown


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_names_of_classes_and_files_go_into_any_pipe(encoding: str) -> None:
    """As `recommend` prints them, one of them of bytes that are no UTF-8; and to standard error."""
    raw, errors = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(stream, encoding=encoding) for stream in (raw, errors))
    table = listing("class")
    table.add_row("猫 \udcff")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        accept_any_text()
        console.print("  note: 猫 has one image", **PLAIN)
        console.print(table)
        say("model = load_tuned('猫')")
        complain("error: 猫 \udcff")
        out.flush()
        err.flush()
    assert raw.getvalue().count(rb"\u732b") == 3
    assert errors.getvalue().startswith(rb"utuning-search: error: \u732b \udcff")


@pytest.mark.parametrize("text", [EVIL, MARKUP, f"{EVIL}{MARKUP}"], ids=["control", "markup", "both"])
@pytest.mark.usefixtures("place")
def test_what_others_wrote_does_nothing_to_a_screen(text: str) -> None:
    """A description, a task's file, and a message about a file's content."""
    explained = succeeded("spaces", write_space(text))
    assert visible(re.sub("[\x07\r]", "", text)) in explained.replace("\n", "")  # rich leaves those two out
    Path("raw.toml").write_text(f"# {text}\nname = 'x'\n", newline="")
    listed = succeeded("tasks", "raw.toml")
    Path("wrong.toml").write_text(f"name = {json.dumps(text)}\n{json.dumps(text)} = 1\n")
    told = refused("run", "--space", "wrong.toml")
    for said in (explained, listed, told):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", said)


@pytest.mark.parametrize("arguments", [(EVIL,), ("run", f"--nope={EVIL}\nx"), ("run", "--seed", EVIL)])
def test_what_was_typed_is_repeated_on_one_line(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(list(arguments))
    said = capsys.readouterr().err
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", said)
    assert "error: " in said.splitlines()[-1]


def test_a_journals_names_do_nothing_to_a_screen(studied: Path) -> None:
    journal = studied / "studies" / "smoke-tiny" / "journal.log"
    text = journal.read_text()
    assert '"preset":"linear-probe"' in text
    journal.write_text(text.replace('"preset":"linear-probe"', f'"preset":{json.dumps(EVIL + MARKUP)}'))
    for form in ("table", "csv", "json"):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", succeeded("front", "smoke-tiny", "-f", form))


def test_visible_leaves_lines_and_letters_alone() -> None:
    assert visible("Σ\t猫\n") == "Σ\t猫\n"
    assert visible("\x1b[1m\x85\u2067") == r"\x1b[1m\x85\u2067"
    assert visible("a\u200bb\ufeff\u2028\xad") == r"a\u200bb\ufeff\u2028\xad"
    assert visible("👩\u200d🔬 می\u200cخواهم") == "👩\u200d🔬 می\u200cخواهم", "they join letters"


LONG = "n" * 260


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--name", LONG),
        ("run", "--name", "é" * 101),
        ("run", "--studies-dir", LONG),
        ("run", "--space", f"{LONG}.toml"),
        ("run", "--task", LONG),
        ("front", LONG),
        ("resume", LONG),
        ("repair", LONG),
        ("export", "smoke-tiny", "--out", LONG),
        ("front", "smoke-tiny", "--png", f"{LONG}.png"),
        ("cite", LONG),
        ("recommend", "--data", LONG),
    ],
)
@pytest.mark.usefixtures("studied")
def test_names_that_no_file_can_have_are_refused(arguments: tuple[str, ...]) -> None:
    assert len(refused(*arguments)) > 40


@pytest.mark.parametrize("name", ["-rf", "--help", ".hidden", "a b", "a/b", "caf\udce9", "\ud800" * 201])
@pytest.mark.usefixtures("place")
def test_a_name_that_is_none_is_refused(name: str) -> None:
    assert "--name: a study's name has " in refused("run", f"--name={name}")


@pytest.mark.parametrize("option", ["--data-dir", "--checkpoint"])
@pytest.mark.usefixtures("place")
def test_a_place_that_no_file_can_name_is_refused_and_nothing_is_written(option: str) -> None:
    """As of bytes that are no text; what uses it would not be told where."""
    assert refused("run", "--space", "own.toml", "--task", "tiny.toml", option, "caf\udce9", *INLINE)
    assert not Path("studies").exists()


# What can be copied


@pytest.mark.parametrize("folder", ["my studies", "it's; touch hacked", "$HOME"])
def test_commands_that_are_offered_can_be_pasted(folder: str, studied: Path) -> None:
    (studied / "studies").rename(studied / folder)
    out = succeeded("resume", "smoke-tiny", "--trials", "1", "--studies-dir", folder, *INLINE)
    offered = [line for line in out.splitlines() if line.startswith("  utuning-search ")]
    assert len(offered) == 4
    for line in offered:
        words = shlex.split(line)
        assert words[words.index("--studies-dir") + 1] == folder
        assert words[2] == "smoke-tiny"
    told = succeeded("export", "smoke-tiny", "--studies-dir", folder)
    assert f"load_tuned({python_string(Path(folder) / 'smoke-tiny' / 'exports')[:-1]}/trial_" in told
    with (studied / folder / "smoke-tiny" / "journal.log").open("ab") as journal:
        journal.write(b"torn")
    repair = command("front", "smoke-tiny", "--studies-dir", folder).err.split("Run: ")[1]
    succeeded(*shlex.split(repair)[1:])


@pytest.mark.parametrize("path", ['quo"te', "back\\slash", "猫", "new\nline"])
def test_a_path_is_a_string_of_python(path: str) -> None:
    (value,) = [eval(python_string(Path(path)))]
    assert value == path


# Ctrl-C and SIGTERM in the first seconds

EARLY = """
import os, signal, sys
from utuning_search.cli.streams import stopped_at_once
with stopped_at_once():
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
        import this
    except BaseException:
        print("a library made something else of it")
print("never")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_libraries_are_imported_is_quiet(number: int) -> None:
    """An exception in the middle of torch's initialisation is an abort, with its C++ stack on the screen."""
    line = [sys.executable, "-c", EARLY, str(int(number))]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "utuning-search: stopped.\n")


def test_a_command_has_its_own_way_with_sigterm_once_all_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    module, found = importlib.import_module("utuning_search.cli.main"), []

    def run(arguments: object) -> int:
        del arguments
        found.append(signal.getsignal(signal.SIGTERM))
        return 0

    def load(*_: str) -> Callable[[object], int]:
        run(None)
        return run

    monkeypatch.setattr(module, "load", load)
    assert main(["cite", "ssf"]) == 0
    assert found == [_leave, module._as_interrupt]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_shells_wish_to_ignore_ctrl_c_is_kept() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main(["cite", "ssf"]) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


CLOSED = """
import sys
from utuning_search.cli.streams import open_closed
open_closed()
with open(sys.argv[1], "w") as journal:
    print("printed", flush=True)
    print("printed", file=sys.stderr, flush=True)
    journal.write(str(journal.fileno() > 2))
"""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_printed_goes_into_no_file_where_streams_are_closed(closed: str, tmp_path: Path) -> None:
    """As a file that is opened next gets the number of the stream."""
    line = [sys.executable, "-c", CLOSED, str(tmp_path / "journal")]
    done = subprocess.run(f"exec {shlex.join(line)} {closed}", shell=True, capture_output=True, check=False)
    assert done.returncode == 0
    assert (tmp_path / "journal").read_text() == "True"


def test_a_command_runs_where_streams_are_closed() -> None:
    line = shlex.join([sys.executable, "-m", "utuning_search.cli", "tasks"])
    done = subprocess.run(f"exec {line} >&- 2>&-", shell=True, capture_output=True, check=False)
    assert done.returncode == 0


def test_a_full_disk_below_standard_output_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            del text
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", Full())
        assert main(["cite", "ssf"]) == 2
    assert capsys.readouterr().err == (
        "utuning-search: error: what is printed: it can be used; got No space left on device.\n"
    )
