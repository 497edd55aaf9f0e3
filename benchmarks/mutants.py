"""Would a test notice? A random sample of one-place changes of a package, and the share that its tests find.

    python benchmarks/mutants.py search --sample 120 --seed 0 --json FILE [--again FILE]

Changes are those of cosmic-ray (`pip install cosmic-ray`): an operator, a comparison, a number, a truth value, an
exception, a loop or a decorator is another one or gone; of up to eleven for one operator those in CHANGES. Places are
drawn, evenly over the package, and one change at each; annotations are left alone. A larger sample of the same seed
begins with the smaller one. Each mutant meets the test files that TESTS lists for its module until a test fails; so
the score is what these find, and the whole suite may find more. Commands and workers are not among them: slow.

Files are changed in place, so run it in a copy of the checkout, from its root; the last one is put back however the
script ends. A process that has the heavy libraries loaded is forked for each mutant. One that needs more than LIMIT
seconds of CPU counts as killed, for it went round and round. Printed are each mutant, and the score with Wilson's 95%
interval. --again tries those of an earlier FILE again that survived, and prints the score of the whole sample.
"""

import argparse
import ast
import contextlib
import importlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

from utuning_search.results.statistics.wilson import wilson

# Of cosmic-ray's operators; each what somebody might have written instead.
CHANGES = {
    "ReplaceBinaryOperator_": "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Div Mod_Div Pow_Mul BitOr_BitAnd BitAnd_BitOr",
    "ReplaceComparisonOperator_": "Eq_NotEq NotEq_Eq Lt_LtE Lt_GtE LtE_Lt LtE_Gt Gt_GtE Gt_LtE GtE_Gt GtE_Lt Is_IsNot "
    "IsNot_Is",
    "ReplaceUnaryOperator_": "USub_UAdd Delete_Not",
    "": "AddNot ReplaceTrueWithFalse ReplaceFalseWithTrue ReplaceAndWithOr ReplaceOrWithAnd ReplaceBreakWithContinue "
    "ReplaceContinueWithBreak NumberReplacer ExceptionReplacer RemoveDecorator ZeroIterationForLoop",
}
OPERATORS = {f"core/{kind}{name}": kind or name for kind, names in CHANGES.items() for name in names.split()}
LOADED = "torch torchvision timm optuna sqlalchemy sklearn.model_selection scipy.stats pandas matplotlib.pyplot"
LOADED += " safetensors.torch rich.console"
NEVER, PUNCTUATION = ("name", "string", "newline", "endmarker"), tuple(".,:;()[]{}=")  # nodes that nothing changes
QUIET = "ignore::pytest.PytestAssertRewriteWarning"  # of plugins that are loaded already
PATIENCE = 1800.0  # seconds; whoever needs more waits for something
LIMIT = 200  # seconds of CPU; the tests of no module take half of it
RULES = "tests/test_architecture.py"
STUDIES = "search/test_study.py"
FRONTS = "search/test_pareto.py search/test_objectives.py"
TRIALS = f"search/test_history.py search/test_predicted.py search/test_rates_of_presets.py {FRONTS}"
ENDS = "search/test_budget.py search/test_joining.py search/pruners"
MADE = "search/test_spec.py search/test_leftovers.py"
ASKED = "search/pruners search/test_spec.py search/test_predicted.py"
JOURNALS = "search/test_journal_repair.py search/test_storage.py search/test_leases.py"
EXPORTS = "results/test_peft_files.py results/test_whole_exports.py results/test_export.py"
PICTURES = "results/test_pick.py results/test_sampling_error.py results/test_pictures.py results/test_confirm.py"
KEPT = "results/test_damaged.py results/test_confirm.py"
# Test files by the beginning of a module's name, the quickest first; the longest beginning counts.
TESTS = {
    "search/": f"{TRIALS} {ENDS} {MADE} {JOURNALS} {STUDIES} search/test_environment.py",
    "search/surrogate/": "search/surrogate search/test_predicted.py search/test_ehvi.py",
    "search/samplers/": "search/test_spec.py search/test_contracts.py search/test_ehvi.py",
    "search/pruners/": f"{ASKED} search/test_contracts.py {STUDIES}",
    "search/pruners/known": "search/test_known.py",
    "search/callbacks/": "search/callbacks/test_callbacks.py",
    "search/creation": f"search/test_leftovers.py {STUDIES}",
    "search/objectives/": f"search/test_spec.py {TRIALS} search/surrogate/test_costs.py search/test_contracts.py",
    "search/pareto": f"{FRONTS} search/test_predicted.py search/surrogate",
    "search/spec": f"search/test_spec.py search/test_rates_of_presets.py {STUDIES}",
    "search/journal": JOURNALS,
    "search/storage": f"search/test_masking.py {JOURNALS} {STUDIES}",
    "search/masking": f"search/test_masking.py {STUDIES}",
    "search/local": "search/test_local.py",
    "search/leases": "search/test_leases.py search/test_environment.py",
    "results/": f"{PICTURES} {EXPORTS}",
    "results/statistics/": "results/test_statistics.py results/test_sampling_error.py results/test_confirm.py",
    "results/recommend/": "results/test_recommend.py",
    "results/report/": "results/test_report.py results/test_resilience.py",
    "results/comparing": "results/test_comparing.py",
    "results/pictures/comparison": "results/test_comparing.py",
    "results/pictures/front": "results/test_pictures.py",
    "results/finals": f"results/test_metrics.py {KEPT}",
    "results/words": KEPT,
    "results/ood/": "results/test_ood_scores.py results/test_ood.py",
    "results/resilience/": "results/test_resilience.py",
    "results/exports/unknown": "results/test_unknown.py",
    "results/threshold": "results/test_unknown.py",
    "results/outcomes": f"results/test_outcomes.py {KEPT}",
    "results/predictions": KEPT,
    "results/verdicts": KEPT,
    "results/classes": f"results/test_metrics.py {KEPT}",
    "results/calibration": f"results/test_metrics.py {KEPT}",
    "results/metrics": f"results/test_metrics.py {KEPT}",
    "results/final_training": "results/test_seeds_of_finals.py results/test_confirm.py",
    "results/confirm": f"results/test_seeds_of_finals.py {KEPT}",
    "results/predict": "results/test_predict.py",
    "results/classifier": f"results/test_predict.py {EXPORTS}",
    "results/rounds": "results/test_recommend.py",
    "results/exports/": f"results/test_formats.py {EXPORTS}",
    "results/load": EXPORTS,
    "results/checked": EXPORTS,
    "results/trained": EXPORTS,
    "results/pick": "results/test_pick.py results/test_export.py",
    "results/exports/card": f"results/test_records.py {EXPORTS}",
    "results/finalists": "results/test_pick.py results/test_confirm.py",
    "results/sampling_error": "results/test_sampling_error.py results/test_pictures.py",
}


@dataclass
class Mutant:
    """One change of one place.

    Attributes:
        path: Of the module, in the checkout.
        line: Where it is.
        operator, occurrence: Of cosmic-ray's.
        before, after: The line.
        outcome: "killed", "survived", or "slow", which is killed too.
        test: Which killed it.
    """

    path: str
    line: int
    operator: str
    occurrence: int
    before: str
    after: str
    outcome: str = ""
    test: str = ""
    seconds: float = 0.0


def places(path: Path) -> dict[tuple[str, Any, Any], list[tuple[str, int]]]:
    """Changes (operator, number of its place) by kind of operator and place, annotations apart."""
    code = path.read_text()
    spans, found = list(_annotations(code)), defaultdict(list)
    known = {name: plugins.get_operator(name)() for name in OPERATORS}
    numbers: Counter[str] = Counter()
    for node in ast_nodes(get_ast(code)):
        if node.type in NEVER or getattr(node, "value", "") in PUNCTUATION:
            continue
        for name, operator in known.items():
            for start, stop in operator.mutation_positions(node):
                if not any(a <= start and stop <= b for a, b in spans):
                    found[OPERATORS[name], start, stop].append((name, numbers[name]))
                numbers[name] += 1
    return found


def _annotations(code: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(ast.parse(code)):
        several = [getattr(node, name, None) for name in ("annotation", "returns")]
        for part in several:
            if isinstance(part, ast.expr):
                yield (part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0)


def drawn(package: str, sample: int, seed: int) -> list[Mutant]:
    """So many mutants at different places of a package, in the order they were drawn."""
    everywhere = [
        (path, place, changes)
        for path in sorted(Path("utuning_search", package).rglob("*.py"))
        for place, changes in sorted(places(path).items())
    ]
    draw = random.Random(seed)
    draw.shuffle(everywhere)
    found: list[Mutant] = []
    for path, (_, start, _), changes in everywhere:
        if len(found) == sample:
            break
        name, occurrence = draw.choice(changes)
        code = path.read_text()
        changed = mutate_code(code, plugins.get_operator(name)(), occurrence)
        if changed is not None and _differs(code, changed):
            both = zip(code.split("\n"), changed.split("\n"), strict=False)
            before, after = next((a.strip(), b.strip()) for a, b in both if a != b)
            found.append(Mutant(str(path), start[0], name, occurrence, before, after))
    print(f"{package}: {len(everywhere):,} places, {len(found)} drawn", flush=True)
    return found


def _differs(one: str, other: str) -> bool:
    with contextlib.suppress(SyntaxError):
        return ast.dump(ast.parse(one)) != ast.dump(ast.parse(other))
    return False


def tests_of(path: str) -> list[str]:
    """The test files of a module, the one of its own name before all, and the rules of all modules after them."""
    name = path.removeprefix("utuning_search/")
    own = Path("tests", name).with_name(f"test_{Path(name).name}")
    listed = [f"tests/{file}" for file in TESTS[max((n for n in TESTS if name.startswith(n)), key=len)].split()]
    return list(dict.fromkeys([*([str(own)] if own.exists() else []), *listed, RULES]))


def meet(mutant: Mutant, tests: Sequence[str]) -> None:
    """Run tests against a changed file in a forked process, which has a session of its own."""
    path, begun = Path(mutant.path), time.monotonic()
    whole = path.read_text()
    changed = mutate_code(whole, plugins.get_operator(mutant.operator)(), mutant.occurrence)
    log = Path(tempfile.gettempdir(), f"mutant-{os.getpid()}.txt")
    try:
        path.write_text(changed)
        code = _forked(tests, log)
    finally:
        path.write_text(whole)
    mutant.outcome = "survived" if code == 0 else "slow" if code < 0 else "killed"
    said = log.read_text(errors="replace").splitlines() if log.exists() else []
    mutant.test = next((s.split(" - ")[0].split()[-1] for s in said if s.startswith(("FAILED", "ERROR"))), "")
    mutant.seconds = round(time.monotonic() - begun, 1)


def _forked(tests: Sequence[str], log: Path) -> int:
    """The exit code of tests in a process of its own, negative where that was ended; nothing of it is left."""
    child, until = os.fork(), time.monotonic() + PATIENCE
    if not child:
        _run(tests, log)
    ended, status = 0, 0
    while not ended and time.monotonic() < until:
        time.sleep(0.05)
        ended, status = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # with what tests left
    if not ended:
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _run(tests: Sequence[str], log: Path) -> None:
    """In the forked process: all tests up to the first that fails; a clock of its own CPU seconds ends it."""
    import pytest  # here: it wants to see its plugins being imported

    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 10))
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 99
    try:
        for test in tests:  # one after the other: what the first one notices costs no collection of others
            code = int(pytest.main(["-x", "-p", "no:cacheprovider", "-W", QUIET, test]))
            if code:
                break
    finally:
        sys.stdout.flush()
        os._exit(code)


def score(mutants: Sequence[Mutant]) -> dict[str, Any]:
    """Killed of all, and Wilson's 95% interval."""
    killed = sum(m.outcome in ("killed", "slow") for m in mutants)
    share = killed / max(len(mutants), 1)
    low, high = wilson(share, max(len(mutants), 1))
    counted = {"mutants": len(mutants), "killed": killed}
    return {**counted, "score": round(share, 3), "low": round(low, 3), "high": round(high, 3)}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("package", help="such as search or results")
    options.add_argument("--sample", type=int, default=120)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", type=Path, metavar="FILE")
    options.add_argument("--again", type=Path, metavar="FILE", help="survivors of an earlier run only")
    arguments = options.parse_args()
    if arguments.again:
        mutants = [Mutant(**row) for row in json.loads(arguments.again.read_text())["mutants"]]
    else:
        mutants = drawn(arguments.package, arguments.sample, arguments.seed)
        if arguments.json and arguments.json.exists():  # a run that was stopped goes on
            before = [Mutant(**row) for row in json.loads(arguments.json.read_text())["mutants"]]
            known = {(m.path, m.line, m.operator, m.occurrence): m for m in before}
            mutants = [known.get((m.path, m.line, m.operator, m.occurrence), m) for m in mutants]
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    for name in LOADED.split():
        importlib.import_module(name)
    for name in [n for n in sys.modules if n.split(".")[0] == "utuning_search"]:
        del sys.modules[name]
    control = Path(tempfile.gettempdir(), "control.txt")
    if not any(m.outcome for m in mutants) and _forked(tests_of(mutants[0].path), control):
        raise SystemExit(f"Without any change, tests fail:\n{control.read_text()}")
    for i, mutant in enumerate(mutants):
        if mutant.outcome and (mutant.outcome != "survived" or not arguments.again):
            continue
        meet(mutant, tests_of(mutant.path))
        place = f"{mutant.path}:{mutant.line}"
        print(f"{i:>4} {mutant.outcome:<8} {mutant.seconds:>6} s  {place}  {mutant.after}", flush=True)
        if arguments.json:
            content = {"score": score([m for m in mutants if m.outcome]), "mutants": list(map(asdict, mutants))}
            arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(score(mutants)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
