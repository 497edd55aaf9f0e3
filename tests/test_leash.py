"""A test run that is killed leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# As tests start commands and processes: one in a group of its own, and one that is forked and waits for ever.
RUN = """
import multiprocessing, signal, subprocess, sys
from tests.leash import Leash, end_with_parent

def wait_for_ever(pipe):
    end_with_parent()
    pipe.send(None)
    signal.pause()

command = subprocess.Popen([sys.executable, "-I", "-S", "-c", SLEEP], start_new_session=True, stdout=subprocess.PIPE)
command.stdout.readline()
leash = Leash(command.pid)
context = multiprocessing.get_context("fork")
ours, theirs = context.Pipe()
forked = context.Process(target=wait_for_ever, args=(theirs,))
forked.start()
ours.recv()
print(command.pid, forked.pid, leash._watcher.pid, flush=True)
if sys.stdin.readline().startswith("off"):
    forked.kill()
    leash.off()
else:
    signal.pause()
"""
SLEEP = "import time; print('here', flush=True); time.sleep(600)"


def started() -> tuple[subprocess.Popen[str], list[int]]:
    line = [sys.executable, "-c", RUN.replace("SLEEP", repr(SLEEP))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    assert run.stdout is not None
    return run, [int(pid) for pid in run.stdout.readline().split()]


def alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def ended(pids: list[int]) -> bool:
    """Whether they all end, at the latest when nobody would believe it any more."""
    for _ in range(1200):
        if not any(map(alive, pids)):
            return True
        time.sleep(0.1)
    return False


def test_a_killed_test_run_leaves_no_process_behind() -> None:
    run, pids = started()
    assert len(pids) == 3
    assert all(map(alive, pids))
    run.kill()
    run.communicate()
    assert ended(pids)


def test_a_leash_that_is_off_strikes_nobody() -> None:
    run, (command, *others) = started()
    run.communicate("off\n")
    try:
        assert ended(others)
        assert alive(command)
    finally:
        os.kill(command, signal.SIGKILL)
    assert ended([command])
