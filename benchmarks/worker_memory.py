"""What memory the processes of a run hold at their peak, and what of it is each one's own.

    python benchmarks/worker_memory.py [--task digits] [--trials 14] [--workers 2] [--data-dir DIR] [--json FILE]

A study is run as users run it. Of each process three figures in MiB are looked at twice a second, and the largest kept:
resident, which counts shared pages in full; proportional, which shares them out among those that have them; and own,
written by it and by nobody else, which is what one more worker costs a machine. Then follow resident memory and CPU
seconds of a fresh interpreter after each import that a worker makes. Linux.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KINDS = {"resource_tracker": "tracker", "spawn_main": "worker", "forkserver": "worker"}
FIGURES = {"resident": "Rss", "proportional": "Pss", "own": "Private_Dirty"}
IMPORTS = ("torch", "timm", "utuning_search.training.pool")
IMPORT = """
import resource, time, sys
import {0}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.process_time())
"""


def memory(pid: str) -> dict[str, float] | None:
    """Of a process, in MiB; None where it is gone."""
    try:
        told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    return {name: int(re.search(rf"^{key}:\s+(\d+)", told, re.M)[1]) / 1024 for name, key in FIGURES.items()}


def processes(group: int) -> list[tuple[str, str, str]]:
    """(id, kind, parent's id) of the processes of a group."""
    told = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,ppid=,pgid=,args="], capture_output=True, text=True).stdout
    rows = [line.split(maxsplit=3) for line in told.splitlines()]
    ours = [
        (pid, parent, command) for pid, parent, own, command in (r for r in rows if len(r) == 4) if own == str(group)
    ]
    kinds = {pid: next((k for key, k in KINDS.items() if key in command), "main") for pid, _, command in ours}
    above = {parent for _, parent, _ in ours}
    # What workers are copies of is the worker that has children.
    return [
        (pid, "server" if kinds[pid] == "worker" and pid in above else kinds[pid], parent) for pid, parent, _ in ours
    ]


def peaks(command: list[str], folder: str) -> list[tuple[str, dict[str, float]]]:
    """Kind and largest figures of each process of a run."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    kinds: dict[str, str] = {}
    most: dict[str, dict[str, float]] = {}
    while run.poll() is None:
        for pid, kind, _ in processes(run.pid):
            now = memory(pid)
            if now is not None:
                kinds[pid] = kind if kinds.get(pid) != "server" else "server"
                most[pid] = {name: max(now[name], most.get(pid, now)[name]) for name in now}
        time.sleep(0.5)
    if run.returncode:
        raise SystemExit(run.returncode)
    return [(kinds[pid], most[pid]) for pid in most if kinds[pid] != "tracker"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--task", default="digits")
    options.add_argument("--trials", type=int, default=14)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--data-dir", metavar="DIR")
    options.add_argument("--json", type=Path, metavar="FILE")
    arguments = options.parse_args()
    line = [sys.executable, "-c", "import sys; from utuning_search.cli import main; sys.exit(main())", "run", "--quiet"]
    line += ["--space=full", f"--task={arguments.task}", f"--trials={arguments.trials}", "--name=memory"]
    line += [f"--workers={arguments.workers}"]
    line += [f"--data-dir={Path(arguments.data_dir).resolve()}"] if arguments.data_dir else []
    with tempfile.TemporaryDirectory() as folder:
        found = peaks(line, folder)
    print(f"| process | {' | '.join(FIGURES)} |\n|---|{'---|' * len(FIGURES)}")
    for kind, figures in sorted(found, key=lambda item: item[0]):
        print(f"| {kind} | {' | '.join(f'{value:.0f}' for value in figures.values())} |")
    imports = {}
    for name in IMPORTS:
        told = subprocess.run([sys.executable, "-c", IMPORT.format(name)], capture_output=True, text=True, cwd=ROOT)
        imports[name] = dict(zip(("resident", "cpu_seconds"), map(float, told.stdout.split()), strict=True))
        print(f"import {name}: {imports[name]['resident']:.0f} MiB, {imports[name]['cpu_seconds']:.1f} s")
    if arguments.json:
        rows = [{"process": kind, **figures} for kind, figures in found]
        arguments.json.write_text(json.dumps({"processes": rows, "imports": imports}, indent=1))


if __name__ == "__main__":
    main()
