"""What parsers do with input that nobody would write: 10,000 mutations of valid input for each that a user can reach.

    python benchmarks/fuzz.py [--inputs 10000] [--seed 0] [--json FILE] [--only NAME ...] [--keep FOLDER]

Valid files are made first: a small study that ran, its finals and its export, checkpoints, pictures. Then each parser
gets them with bytes, lines or values changed, left out, doubled or replaced by odd ones, from the command line where
that is how a user reaches it. Fine are results and the package's own errors, which a command says in one line with
exit code 2. Found is everything else: another exception, an input that takes more than LIMIT seconds of CPU, a process
that dies, or says nothing for PATIENCE seconds.

Input number i of a parser is a function of --seed, the parser's name and i. Printed are inputs, the package's own
errors among the answers, seconds and findings a parser; each kind of finding (exception and place) is shown once with
its number of inputs, and with --keep the first input of each is kept. The exit code is 0 if nothing was found. All
parsers together take more than an hour of a core; with --json, what FILE has of the same seed is not done again, and
what was done is written every PIECE inputs.
"""

import argparse
import json
import multiprocessing
import os
import pickle
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from fuzzing.parsers import Parser, parsers
from fuzzing.samples import Samples, make_samples

from utuning_search.common.errors import UTuningError

LIMIT, START = 10.0, 120.0  # seconds of CPU that one input may take, and what comes before the first one
PATIENCE = 600  # seconds that nothing needs, however busy the machine is: who takes them waits for something
PIECE = 1000  # inputs between two writings of FILE


@dataclass
class Tally:
    """What came of one parser's inputs.

    Attributes:
        inputs: Given so far.
        refused: Answered with one of the package's own errors; commands, which refuse by themselves, are not counted.
        seconds: All of them together, making them included.
        findings: Inputs by kind, which is an exception and where it came from.
        first: Number of the first input of each kind.
        told: The traceback of each kind's first one.
    """

    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    findings: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Tally":
        return cls(row["inputs"], row["refused"], row["seconds"], Counter(row["found"]), dict(row["first"]))

    def row(self) -> dict[str, Any]:
        seconds = round(self.seconds, 1)
        found = dict(self.findings)
        return {
            "inputs": self.inputs,
            "refused": self.refused,
            "seconds": seconds,
            "found": found,
            "first": self.first,
        }

    def add(self, number: int, kind: str, told: str = "") -> None:
        self.findings[kind] += 1
        self.first.setdefault(kind, number)
        self.told.setdefault(kind, told)


def drawn(name: str, seed: int, number: int) -> random.Random:
    """The random numbers that make an input."""
    return random.Random(f"{seed} {name} {number}")


def _kind(error: BaseException) -> str:
    """An exception, and the last line of the package that it went through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "utuning_search" in f.filename]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "elsewhere"
    return f"{type(error).__name__} in {place}"


def _work(samples: Samples, folder: Path, name: str, seed: int, numbers: range, pipe: Connection) -> None:
    """In a process of its own: say (number,) before each input, (number, kind, traceback) of a finding, and the end."""
    torch.set_num_threads(1)
    signal.setitimer(signal.ITIMER_PROF, START)  # SIGPROF ends the process, in C code too
    warnings.simplefilter("ignore")
    os.environ.pop("OPTUNA_STORAGE", None)
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what C libraries say of broken pictures
    parser = parsers(samples, folder)[name]
    refused = 0
    for number in numbers:
        pipe.send((number,))
        signal.setitimer(signal.ITIMER_PROF, LIMIT)
        given = parser.make(drawn(name, seed, number))
        try:
            parser.feed(given)
        except UTuningError:
            refused += 1
        except Exception as error:
            pipe.send((number, _kind(error), traceback.format_exc()))
    pipe.send(refused)


def fuzz(samples: Samples, name: str, seed: int, tally: Tally, inputs: int) -> None:
    """Give a parser inputs until it has had so many, and go on after each that hangs or ends its process."""
    begun, start = time.monotonic(), tally.inputs
    fork = multiprocessing.get_context("fork")
    while start < inputs:
        ours, theirs = fork.Pipe(duplex=False)
        with tempfile.TemporaryDirectory() as folder:
            numbers = range(start, inputs)
            worker = fork.Process(target=_work, args=(samples, Path(folder), name, seed, numbers, theirs))
            worker.start()
            theirs.close()
            ended = ""
            while not ended:
                try:
                    # By the second: who is stopped for a while and goes on finds that hardly any has passed.
                    if not any(ours.poll(1.0) for _ in range(PATIENCE)):
                        ended = "hang"
                        break
                    told: Any = ours.recv()
                except EOFError:
                    worker.join()
                    ended = "hang" if worker.exitcode == -signal.SIGPROF else "crash"
                    break
                if isinstance(told, int):
                    tally.refused, start, ended = tally.refused + told, inputs, "done"
                elif len(told) == 1:
                    (start,) = told
                else:
                    tally.add(*told)
            if ended != "done":
                worker.kill()
                tally.add(start, ended)
                start += 1
            worker.join()
    tally.inputs, tally.seconds = inputs, tally.seconds + time.monotonic() - begun


def earlier(path: Path | None, seed: int) -> dict[str, Tally]:
    """What FILE has of this seed; another one's is refused."""
    if path is None or not path.exists():
        return {}
    content = json.loads(path.read_text())
    if content["seed"] != seed:
        raise SystemExit(f"{path} is of seed {content['seed']}, not {seed}; give another --json.")
    return {name: Tally.from_row(row) for name, row in content["parsers"].items()}


def kept(parser: Parser, name: str, seed: int, tally: Tally, folder: Path) -> None:
    """Write the first input of each kind of finding."""
    for kind, number in tally.first.items():
        given = parser.make(drawn(name, seed, number))
        path = folder / "".join(c if c.isalnum() else "_" for c in f"{name} {number} {kind}")
        path.write_bytes(given if isinstance(given, bytes) else pickle.dumps(given))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--inputs", type=int, default=10_000, help="for each parser")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", type=Path, metavar="FILE")
    options.add_argument("--only", nargs="+", metavar="NAME", help="parsers whose names begin so")
    options.add_argument("--keep", type=Path, metavar="FOLDER", help="write the first input of each kind into FOLDER")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    found = earlier(arguments.json, arguments.seed)
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as here:
        samples = make_samples(Path(made))
        known = parsers(samples, Path(here))
        for name, parser in known.items():
            if arguments.only and not name.startswith(tuple(arguments.only)):
                continue
            tally = found.setdefault(name, Tally())
            while tally.inputs < arguments.inputs:
                fuzz(samples, name, arguments.seed, tally, min(tally.inputs + PIECE, arguments.inputs))
                if arguments.json:
                    rows = {n: t.row() for n, t in found.items()}
                    arguments.json.write_text(json.dumps({"seed": arguments.seed, "parsers": rows}, indent=1) + "\n")
            print(
                f"{name:<22} {tally.inputs:>7,} inputs {tally.refused:>7,} refused {tally.seconds:>6.0f} s "
                f"{tally.findings.total():>6} found",
                flush=True,
            )
            for kind, count in tally.findings.most_common():
                print(f"    {count:>5}  {kind}, first at {tally.first[kind]}\n{tally.told.get(kind, '')}", flush=True)
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                kept(parser, name, arguments.seed, tally, arguments.keep)
    inputs, findings = sum(t.inputs for t in found.values()), sum(t.findings.total() for t in found.values())
    print(f"{inputs:,} inputs, {findings:,} found")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
