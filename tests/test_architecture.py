"""The house stands: imports go down, one door a library, rooms that say what they are, only the CLI prints."""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "utuning_search"
MAX_LINES = 400
MAX_AT_TOP = 10  # things that lie directly in the package
TESTING = f"{PACKAGE}.testing"
MAY_PRINT = (f"{PACKAGE}.cli", f"{PACKAGE}.backbones.embedded.pretrain")
MAY_IMPORT_OURS_IN_FUNCTIONS: tuple[str, ...] = ()
# Who may name the permit to read test images, and who may make one or read them.
PERMIT, GIVES_PERMITS = "TestPermit", f"{PACKAGE}.results.permitted"
KNOWS_PERMITS = (GIVES_PERMITS, f"{PACKAGE}.data")
# How timm names the parts of a model. Some of them name operations of ours too, and are words anywhere but attributes.
KNOWS_PARTS = (f"{PACKAGE}.backbones", f"{PACKAGE}.testing.backbones", f"{PACKAGE}.testing.models")
PARTS = ("attn", "ls1", "ls2", "drop_path1", "drop_path2", "q_norm", "k_norm", "fused_attn", "patch_embed", "pos_embed")
PARTS += ("norm_pre", "num_prefix_tokens", "embed_dim", "in_chans", "global_pool", "forward_head", "forward_features")
NAMED_LIKE_OPERATIONS = ("norm1", "norm2", "qkv", "fc1", "fc2")
# Who may ask it for them: what measures finalists, and what looks ahead whether there are any.
MEASURING = ("prepared", "final_training", "reopened", "ood.detect", "resilience")
MEASURES_FINALS = tuple(f"{PACKAGE}.results.{name}" for name in MEASURING)
HANDS_ON = f"{PACKAGE}.results.reopened"  # it gives the test images of finals to what measures them
LOOKS_AHEAD = (f"{PACKAGE}.cli.run", f"{PACKAGE}.results.recommend.prepare")
CHANGING = ("search.running.Running", "search.journal_repair._Trial", "training.workers._Process")  # others are values
READS_TESTS = (GIVES_PERMITS, f"{PACKAGE}.data.loading", f"{PACKAGE}.data.source")


@dataclass(frozen=True)
class Import:
    """One imported module, by its absolute dotted name."""

    target: str
    line: int
    in_function: bool


@dataclass(frozen=True)
class Module:
    """What the rules need to know of one file."""

    name: str
    path: Path
    lines: int
    imports: tuple[Import, ...]
    prints: tuple[int, ...]
    names: tuple[tuple[str, int], ...] = ()  # every name and attribute that is mentioned, and what is imported
    calls: tuple[tuple[str, int], ...] = ()
    attributes: tuple[tuple[str, int], ...] = ()  # x.name and getattr(x, "name"); "name[]" where it is subscripted
    strings: tuple[tuple[str, int], ...] = ()
    changing: tuple[tuple[str, int], ...] = ()  # dataclasses that are not frozen
    docstring: str = ""
    root: Path = ROOT

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    def at(self, line: int, text: str) -> str:
        return f"{self.path}:{line}: {text}"


Modules = dict[str, Module]
Rule = Callable[[Modules], Iterator[str]]


class Reader(ast.NodeVisitor):
    """Collects the imports and print calls of one file."""

    def __init__(self, package: str, known: set[str]) -> None:
        self.package, self.known = package, known
        self.imports: list[Import] = []
        self.prints: list[int] = []
        self.names: list[tuple[str, int]] = []
        self.calls: list[tuple[str, int]] = []
        self.attributes: list[tuple[str, int]] = []
        self.strings: list[tuple[str, int]] = []
        self.changing: list[tuple[str, int]] = []
        self.depth = 0

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for made in node.decorator_list:
            options = made.keywords if isinstance(made, ast.Call) else []
            frozen = any(o.arg == "frozen" and getattr(o.value, "value", False) is True for o in options)
            if ast.unparse(made).split("(")[0].split(".")[-1] == "dataclass" and not frozen:
                self.changing.append((node.name, node.lineno))
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Import(self, node: ast.Import) -> None:
        self.add(node.lineno, *(alias.name for alias in node.names))
        self.names += ((alias.name.rpartition(".")[2], node.lineno) for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parents = self.package.split(".")
            base = ".".join([*parents[: len(parents) + 1 - node.level], *filter(None, [base])])
        names = (f"{base}.{alias.name}" for alias in node.names)
        self.add(node.lineno, *(name if name in self.known else base for name in names))
        self.names += ((alias.name, node.lineno) for alias in node.names)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id == "print":
            self.prints.append(node.lineno)
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        self.calls.append((called, node.lineno))
        if called in ("getattr", "hasattr", "setattr", "attrgetter"):
            self.attributes += ((a.value, a.lineno) for a in node.args if isinstance(a, ast.Constant))
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self.names.append((node.id, node.lineno))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.names.append((node.attr, node.lineno))
        self.attributes.append((node.attr, node.lineno))
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.value, ast.Attribute):
            self.attributes.append((f"{node.value.attr}[]", node.lineno))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.strings.append((node.value, node.lineno))

    def add(self, line: int, *targets: str) -> None:
        self.imports += (Import(target, line, self.depth > 0) for target in dict.fromkeys(targets))


def read_modules(root: Path) -> Modules:
    """All modules of the package below `root`, by dotted name."""
    paths = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    modules = {}
    for name, path in paths.items():
        text = path.read_text(encoding="utf-8")
        reader = Reader(name if path.stem == "__init__" else name.rpartition(".")[0], set(paths))
        tree = ast.parse(text, str(path))
        reader.visit(tree)
        shown = path.relative_to(root)
        modules[name] = Module(
            name,
            shown,
            len(text.splitlines()),
            tuple(reader.imports),
            tuple(reader.prints),
            tuple(reader.names),
            tuple(reader.calls),
            tuple(reader.attributes),
            tuple(reader.strings),
            tuple(reader.changing),
            ast.get_docstring(tree) or "",
            root,
        )
    return modules


def within(name: str, packages: tuple[str, ...]) -> bool:
    """Whether `name` is one of the packages or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def no_cycles(modules: Modules) -> Iterator[str]:
    lines = {
        (module.name, found.target): found.line
        for module in modules.values()
        for found in module.imports
        if found.target in modules and not found.in_function
    }
    graph: dict[str, set[str]] = {}
    for importer, target in lines:
        graph.setdefault(importer, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = error.args[1]  # each imported by the next
        for target, importer in reversed(list(pairwise(cycle))):
            yield modules[importer].at(lines[importer, target], f"in a cycle: {importer} imports {target}")


def imports_go_down(modules: Modules) -> Iterator[str]:
    """A package imports from those on lower floors only, and each has a floor."""
    for module in modules.values():
        home = _package(module.name, modules)
        if home and home not in FLOORS:
            if module.is_package and module.name == f"{PACKAGE}.{home}":
                yield module.at(1, f"'{home}' has no floor; give it one in pyproject.toml, tool.importlinter")
            continue
        for found in module.imports if home else ():
            target = _package(found.target, modules)
            if target and target != home and FLOORS.get(target, 0) >= FLOORS[home]:
                yield module.at(found.line, f"{home} imports {target}, which is not below it")


def _package(name: str, modules: Modules) -> str:
    """The package at the top that a module lies in; empty where it lies in none."""
    parts = name.split(".")
    inside = parts[0] == PACKAGE and (len(parts) > 2 or (name in modules and modules[name].is_package))
    return parts[1] if inside and len(parts) > 1 else ""


def few_at_the_top(modules: Modules) -> Iterator[str]:
    """A reader sees all rooms at a glance."""
    top = sorted({name.split(".")[1] for name in modules if "." in name})
    for name in top[MAX_AT_TOP:]:
        found = next(m for m in modules.values() if within(m.name, (f"{PACKAGE}.{name}",)))
        yield found.at(1, f"at most {MAX_AT_TOP} things lie directly in {PACKAGE}; this is one of {len(top)}")


def packages_say_what_they_are(modules: Modules) -> Iterator[str]:
    """What a package is for, an empty line, what it may import, and where to start reading."""
    for module in modules.values():
        if not module.is_package or module.name == PACKAGE:  # that one's docstring is for its users
            continue
        head, *rest = module.docstring.splitlines() or [""]
        shape = [line.partition(":")[0] for line in rest]
        if not head or shape != ["", "May import", "Start reading"]:
            yield module.at(1, "a package opens with what it is for, an empty line, 'May import: ', 'Start reading: '")


def no_stale_names(modules: Modules) -> Iterator[str]:
    """Modules that a docstring names exist: beside it, or by their path in the package or the repository."""
    for module in modules.values():
        places = [module.root / module.path.parent, module.root / PACKAGE, module.root]
        for text, line in module.strings:
            for name in re.findall(r"`([\w./]+\.py)`", text):
                if not any((place / name).exists() for place in places):
                    at = line + text[: text.index(name)].count("\n")
                    yield module.at(at, f"names `{name}`, which is not there")


def nobody_imports_testing(modules: Modules) -> Iterator[str]:
    """What is published for tests needs pytest, which who only searches has not."""
    for module in modules.values():
        for found in module.imports:
            if within(found.target, (TESTING,)) and not within(module.name, (TESTING,)):
                yield module.at(found.line, f"imports {found.target}, which is for tests")


def no_hidden_imports(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        for found in module.imports:
            hidden = found.in_function and within(found.target, (PACKAGE,))
            if hidden and module.name not in MAY_IMPORT_OURS_IN_FUNCTIONS:
                yield module.at(found.line, f"imports {found.target} within a function; import it at the top")


def no_long_modules(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        if module.lines > MAX_LINES:
            yield module.at(MAX_LINES + 1, f"a module has at most {MAX_LINES} lines; this one has {module.lines}")


def values_are_frozen(modules: Modules) -> Iterator[str]:
    """What is handed on means the same to everybody who holds it."""
    for module in modules.values():
        for name, line in module.changing:
            if f"{module.name}.{name}" not in {f"{PACKAGE}.{known}" for known in CHANGING}:
                yield module.at(line, f"{name} is a dataclass that is not frozen")


def no_prints(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        if not within(module.name, MAY_PRINT):
            for line in module.prints:
                yield module.at(line, "only the command line prints; return a value")


def no_test_images(modules: Modules) -> Iterator[str]:
    """Test images are for finalists: only one module permits itself to read them, and only through the guard."""
    for module in modules.values():
        for found in module.imports:
            if found.target == GIVES_PERMITS and not within(module.name, (*MEASURES_FINALS, *LOOKS_AHEAD)):
                yield module.at(found.line, f"imports {GIVES_PERMITS}, which reads test images")
            if found.target == HANDS_ON and not within(module.name, MEASURES_FINALS):
                yield module.at(found.line, f"imports {HANDS_ON}, which hands on test images")
        for name, line in module.names:
            if name in ("final_data", "restored") and module.name in LOOKS_AHEAD:
                yield module.at(line, "reads test images; it may look ahead only")
            if name == PERMIT and not within(module.name, KNOWS_PERMITS):
                yield module.at(line, f"names {name}; only {GIVES_PERMITS} may")
            if name == "_test" and module.name != f"{PACKAGE}.data.source":
                yield module.at(line, "reads test images past the guard; call test(permit)")
            if name == "load_final_data" and not within(module.name, (*READS_TESTS, f"{PACKAGE}.data")):
                yield module.at(line, f"reads test images; only {GIVES_PERMITS} may")
        for name, line in module.calls:
            if name == PERMIT and module.name != GIVES_PERMITS:
                yield module.at(line, f"makes a {PERMIT}; only {GIVES_PERMITS} may")
            if name in ("test", "load_final_data") and module.name not in READS_TESTS:
                yield module.at(line, f"reads test images; only {', '.join(READS_TESTS)} may")


def no_parts_of_backbones(modules: Modules) -> Iterator[str]:
    """How a family names and keeps its parts is its adapter's knowledge: as an attribute, or in a dotted name."""
    for module in modules.values():
        if within(module.name, KNOWS_PARTS):
            continue
        for name, line in module.attributes:
            if name in (*PARTS, *NAMED_LIKE_OPERATIONS, "blocks[]"):
                yield module.at(line, f"knows a backbone's part '{name}'; ask its adapter, see backbones/family.py")
        for text, line in module.strings:
            words = set(text.split(".")) if " " not in text else set()
            dotted = len(words) > 1 and (words & set(NAMED_LIKE_OPERATIONS) or text.startswith("blocks."))
            if words & set(PARTS) or dotted:
                yield module.at(line, f"knows a backbone's part by its name '{text}'; ask its adapter")


def one_door(library: str, doors: tuple[str, ...]) -> Rule:
    """The rule that only `doors` import `library`."""

    def rule(modules: Modules) -> Iterator[str]:
        for module in modules.values():
            for found in module.imports:
                if within(found.target, (library,)) and not within(module.name, doors):
                    yield module.at(found.line, f"imports {found.target}; only {', '.join(doors)} may")

    return rule


def declared_doors() -> dict[str, tuple[str, ...]]:
    """The doors of each library, as import-linter checks them too."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    doors = {}
    for contract in config["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "forbidden":
            (library,) = contract["forbidden_modules"]
            importers = (line.split(" -> ")[0].removesuffix(".**") for line in contract["ignore_imports"])
            doors[library] = tuple(dict.fromkeys(importers))
    return doors


def declared_floors() -> dict[str, int]:
    """The floor of each package, from 0, as import-linter checks them too."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = (c["layers"] for c in config["tool"]["importlinter"]["contracts"] if c.get("containers") == [PACKAGE])
    return {name.strip(): floor for floor, names in enumerate(reversed(layers)) for name in names.split("|")}


DOORS = declared_doors()
FLOORS = declared_floors()
RULES: dict[str, Rule] = {
    "no import cycles": no_cycles,
    "imports go down": imports_go_down,
    "few at the top": few_at_the_top,
    "packages say what they are": packages_say_what_they_are,
    "no stale names": no_stale_names,
    "nobody imports testing": nobody_imports_testing,
    "no hidden imports": no_hidden_imports,
    "no long modules": no_long_modules,
    "values are frozen": values_are_frozen,
    "no prints": no_prints,
    "no test images": no_test_images,
    "no parts of backbones": no_parts_of_backbones,
    **{f"one door for {library}": one_door(library, doors) for library, doors in DOORS.items()},
}


@pytest.fixture(scope="module")
def modules() -> Modules:
    return read_modules(ROOT)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_package_keeps_rule(rule: Rule, modules: Modules) -> None:
    assert modules
    broken = list(rule(modules))
    assert not broken, "\n" + "\n".join(broken)


def test_each_floor_has_its_package(modules: Modules) -> None:
    assert set(FLOORS) == {name.split(".")[1] for name in modules if "." in name}


def test_each_heavy_library_has_a_door() -> None:
    known = {"timm", "torchvision", "optuna", "matplotlib", "textalloc", "plotly", "sklearn", "scipy", "pandas", "rich"}
    known |= {"onnxruntime", "huggingface_hub"}
    known |= {"boto3", "botocore", "mlflow", "optuna_dashboard", "pyarrow", "ray", "submitit"}  # of extras
    assert set(DOORS) == known


OPENING = '"""What it is for.\n\nMay import: nothing.\nStart reading: here.\n"""'


@pytest.mark.parametrize(
    ("rule", "files", "where"),
    [
        (
            "no import cycles",
            {"a.py": "import math\nfrom utuning_search import b", "b.py": "from .a import x"},
            "a.py:2",
        ),
        (
            "no import cycles",
            {"data/__init__.py": f"{OPENING}\nfrom .u import x", "data/u.py": "\nfrom . import y"},
            "data/u.py:2",
        ),
        ("imports go down", {"data/a.py": "\nfrom ..search import b", "search/b.py": ""}, "data/a.py:2"),
        ("imports go down", {"testing/a.py": "from ..cli.b import c", "cli/b.py": ""}, "testing/a.py:1"),
        ("imports go down", {"attic/__init__.py": OPENING}, "attic/__init__.py:1"),
        ("few at the top", {f"{letter}.py": "" for letter in "abcdefghijk"}, "k.py:1"),
        ("packages say what they are", {"data/__init__.py": '"""Images."""'}, "data/__init__.py:1"),
        ("packages say what they are", {"data/a/__init__.py": "x = 1"}, "data/a/__init__.py:1"),
        (
            "packages say what they are",
            {"data/__init__.py": OPENING.replace("May import", "Imports")},
            "data/__init__.py:1",
        ),
        ("no stale names", {"data/__init__.py": OPENING.replace("here", "`gone.py`")}, "data/__init__.py:4"),
        ("no stale names", {"data/a.py": '"""See `data/a.py` and `b.py`."""'}, "data/a.py:1"),
        ("nobody imports testing", {"a.py": "from utuning_search.testing import b", "testing/b.py": ""}, "a.py:1"),
        ("no hidden imports", {"a.py": "def f():\n    from .b import x", "b.py": ""}, "a.py:2"),
        ("no hidden imports", {"data/a.py": "async def f():\n    import utuning_search.b", "b.py": ""}, "data/a.py:2"),
        ("no long modules", {"a.py": "x = 1\n" * (MAX_LINES + 1)}, f"a.py:{MAX_LINES + 1}"),
        ("values are frozen", {"a.py": "@dataclass\nclass A:\n    x = 1"}, "a.py:2"),
        ("values are frozen", {"a.py": "@dataclasses.dataclass(frozen=False)\nclass A:\n    x = 1"}, "a.py:2"),
        ("no prints", {"a.py": "def f():\n    return [print(1)]"}, "a.py:2"),
        ("no prints", {"client.py": "print(1)"}, "client.py:1"),
        ("no test images", {"a.py": "\nfrom utuning_search.data import TestPermit"}, "a.py:2"),
        ("no test images", {"a.py": "from utuning_search import data\ndata.permit.TestPermit()"}, "a.py:2"),
        ("no test images", {"data/a.py": "\nfrom .permit import TestPermit\nx = TestPermit()"}, "data/a.py:3"),
        ("no test images", {"data/a.py": "def f(source):\n    return source._test()"}, "data/a.py:2"),
        ("no test images", {"a.py": "def f(source):\n    return source.test(None)"}, "a.py:2"),
        ("no test images", {"a.py": "from utuning_search.data import load_final_data"}, "a.py:1"),
        ("no test images", {"a.py": "from utuning_search.results.permitted import final_data"}, "a.py:1"),
        ("no test images", {"cli/run.py": "\nfrom ..results.permitted import final_data"}, "cli/run.py:2"),
        ("no parts of backbones", {"tuners/a.py": "def f(block):\n    return block.attn"}, "tuners/a.py:2"),
        ("no parts of backbones", {"a.py": "def f(block, x):\n    return block.norm1(x)"}, "a.py:2"),
        ("no parts of backbones", {"a.py": "def f(model):\n    return getattr(model, 'num_prefix_tokens')"}, "a.py:2"),
        ("no parts of backbones", {"training/a.py": "\nx = f().backbone.blocks[1:]"}, "training/a.py:2"),
        ("no parts of backbones", {"results/a.py": "\nNAMES = {'q': 'attn.qkv'}"}, "results/a.py:2"),
        ("no parts of backbones", {"a.py": "def f(i):\n    return f'blocks.{i}.mlp'"}, "a.py:2"),
        ("one door for timm", {"tuners/a.py": "import math\nimport timm.layers as layers"}, "tuners/a.py:2"),
        ("one door for optuna", {"a.py": "def f():\n    from optuna import create_study"}, "a.py:2"),
    ],
)
def test_rule_names_file_and_line(rule: str, files: dict[str, str], where: str, tmp_path: Path) -> None:
    """Each rule finds its offence, and the other rules find none."""
    for name, text in files.items():
        path = tmp_path / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    modules = read_modules(tmp_path)
    assert f"{PACKAGE}/{where}: " in "\n".join(RULES[rule](modules))
    assert {name for name in RULES if list(RULES[name](modules))} == {rule}


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    files = {
        "cli/__init__.py": f"{OPENING}\nimport rich\nfrom ..backbones import vit\nprint(vit)\n",
        "results/prepared.py": "from .permitted import final_data\n",
        "results/permitted.py": "from ..data import TestPermit, load_final_data\n\nx = TestPermit()\n",
        "backbones/vit.py": "import timm\n\n\ndef f(model):\n    import math\n    return model.blocks[0].attn.qkv\n",
        "backbones/shape.py": "@dataclass(slots=True, frozen=True)\nclass A:\n    x = 1\n",
        "search/running.py": "@dataclass\nclass Running:\n    x = 1\n",
        "backbones/cnn.py": "'''See `vit.py`, and `results/prepared.py`.'''",
        "designs/design.py": "def f(shape, p):\n    return shape.widths('qkv'), p.blocks, f'{p}.blocks', 'norm1'\n",
    }
    for name, text in files.items():
        path = tmp_path / PACKAGE / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text, encoding="utf-8")
    modules = read_modules(tmp_path)
    assert [text for rule in RULES.values() for text in rule(modules)] == []
