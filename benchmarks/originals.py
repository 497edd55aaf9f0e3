"""Do the presets compute what the authors' own code computes? Same weights in, same outputs and gradients out.

    python benchmarks/originals.py --root DIR [--json FILE] [--only PRESET ...]

DIR holds checkouts of the authors' repositories, in folders such as DIR/owner+name; nothing of them is copied or
installed. Of each repository the files that hold the method are loaded as they are, with stand-ins for what they
import and a forward pass does not need. A small random ViT and random tuners of ours go in, in double precision on
CPU; the authors' tensors get copies. Outputs may differ by 1e-5, and so may the gradient of each tensor beside its
largest value; every number that we train is compared.

Prints one row a comparison; a repository or a package that is missing gives a row that says how to get it. The exit
code is 1 if a comparison that should be equal is not. All of them take some seconds.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from authors.checkout import Checkout, Missing, Package
from authors.rows import NOT_COMPARABLE, ROWS, Row


@dataclass(frozen=True)
class Result:
    """A row of the table.

    Attributes:
        verdict: "equal", "differs" with the reason that is known, "NOT EQUAL", or what is missing.
        left_out: What the authors train beside it.
    """

    preset: str
    repository: str
    commit: str
    compared: str
    outputs: float | None
    gradients: float | None
    verdict: str
    left_out: str = ""


def result(row: Row, root: Path) -> Result:
    try:
        source = Package.find(row.package) if row.package else Checkout.find(root, row.repository)
        difference = row.run(source)
    except Missing as missing:
        return Result(row.preset, row.repository, "", row.compared, None, None, f"missing: {missing}")
    verdict = "equal" if difference.equal else f"differs: {row.differs}" if row.differs else "NOT EQUAL"
    if row.differs and difference.equal:
        verdict = f"NOT EQUAL: it was to differ, {row.differs}"
    numbers = difference.outputs, difference.gradients
    return Result(row.preset, row.repository, source.commit, row.compared, *numbers, verdict, difference.left_out)


def line(found: Result) -> str:
    shown = ["" if number is None else f"{number:.0e}" for number in (found.outputs, found.gradients)]
    verdict = found.verdict + (f"; theirs also trains {found.left_out}" if found.left_out else "")
    cells = (f"`{found.preset}`", found.repository, found.commit, found.compared, *shown, verdict)
    return f"| {' | '.join(cells)} |"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder with the checkouts")
    parser.add_argument("--json", type=Path, help="write the table as JSON as well")
    parser.add_argument("--only", nargs="+", default=[], metavar="PRESET", help="compare these")
    arguments = parser.parse_args(words)
    if not arguments.root.is_dir():
        print(f"--root: it is a folder with checkouts; got '{arguments.root}'", file=sys.stderr)
        return 2
    rows = [row for row in ROWS if not arguments.only or row.preset in arguments.only]
    print("| preset | repository | commit | compared | outputs | gradients | verdict |\n|---|---|---|---|---|---|---|")
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old code
        for row in rows:
            results.append(result(row, arguments.root))
            print(line(results[-1]), flush=True)
    if not arguments.only:
        print("\nNot compared: " + "; ".join(f"`{name}`: {why}" for name, why in NOT_COMPARABLE.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(found) for found in results], indent=1) + "\n")
    return int(any(found.verdict.startswith("NOT EQUAL") for found in results))


if __name__ == "__main__":
    sys.exit(main())
