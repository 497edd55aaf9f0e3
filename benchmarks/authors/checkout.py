"""Checkouts of other projects, and single files of them as modules, with stand-ins for what is missing."""

import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any


class Missing(Exception):
    """A repository or a package that a comparison needs is not there; the text says how to get it."""


class Anything:
    """Stands for a name that a file imports and that no comparison calls: attribute, decorator, function or base."""

    def __getattr__(self, name: str) -> "Anything":
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        del kwargs
        return args[0] if len(args) == 1 and callable(args[0]) else self

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        del bases
        return ()


class StandIn(ModuleType):
    """A module of given names; every other name in it is `Anything`."""

    def __init__(self, name: str = "stand_in", **given: Any) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__dict__.update(given)

    def __getattr__(self, name: str) -> Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()


@dataclass(frozen=True)
class Checkout:
    """One repository, in a folder of its own.

    Attributes:
        repository: owner/name on GitHub.
        path: Its folder.
    """

    repository: str
    path: Path

    @classmethod
    def find(cls, root: Path, repository: str) -> "Checkout":
        """The checkout of owner/name in `root`: in owner+name, owner/name, owner_name or name.

        Raises:
            Missing: There is none.
        """
        owner, name = repository.split("/")
        for folder in (f"{owner}+{name}", f"{owner}/{name}", f"{owner}_{name}", name):
            if (root / folder).is_dir():
                return cls(repository, root / folder)
        raise Missing(f"git clone https://github.com/{repository} DIR/{owner}+{name}")

    @property
    def commit(self) -> str:
        """Twelve digits of the commit that is checked out; "unknown" where the folder is no checkout."""
        command = ["git", "-C", str(self.path), "rev-parse", "--short=12", "HEAD"]
        if not (self.path / ".git").exists():
            return "unknown"
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or "unknown"

    def load(self, file: str, given: Mapping[str, ModuleType] | None = None) -> Any:
        """One Python file as a module; no `__init__.py` of its packages is run.

        Args:
            file: Its path in the repository, such as "src/models/vit.py".
            given: Modules that it finds instead of what it asks for, by name; a name that begins with a dot is a
                module of the repository, such as ".src.utils".

        Raises:
            Missing: A package that it imports is not installed, or the repository has no such file.
        """
        alias = "original_" + self.repository.replace("/", "_").replace("-", "_")
        modules: dict[str, ModuleType] = {}
        *folders, last = Path(file).with_suffix("").parts
        for depth in range(len(folders) + 1):  # packages, of which nothing is run
            package = StandIn(".".join([alias, *folders[:depth]]))
            package.__path__ = [str(self.path.joinpath(*folders[:depth]))]
            modules[package.__name__] = package
        for name, module in (given or {}).items():
            modules[alias + name if name.startswith(".") else name] = module
        if not (self.path / file).is_file():
            raise Missing(f"{file} is not in the checkout; the table says which commit has it")
        with in_place(alias, modules):
            name = ".".join([alias, *folders, last])
            spec = importlib.util.spec_from_file_location(name, self.path / file)
            assert spec is not None
            assert spec.loader is not None
            loaded = importlib.util.module_from_spec(spec)
            sys.modules[name] = loaded
            try:
                spec.loader.exec_module(loaded)
            except ModuleNotFoundError as error:
                raise Missing(f"pip install {error.name}") from error
        return loaded


@dataclass(frozen=True)
class Package:
    """An installed library in the place of a checkout.

    Attributes:
        name: As pip knows it.
        commit: Its name and version.
    """

    name: str
    commit: str

    @classmethod
    def find(cls, name: str) -> "Package":
        """The installed library.

        Raises:
            Missing: It is not installed.
        """
        try:
            return cls(name, f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError as error:
            raise Missing(f"pip install {name}") from error


@contextmanager
def in_place(alias: str, modules: Mapping[str, ModuleType]) -> Iterator[None]:
    """`modules` under their names meanwhile; nothing of `alias` is left afterwards."""
    before = {name: sys.modules.get(name) for name in modules}
    path = list(sys.path)  # some files add to it
    sys.modules.update(modules)
    try:
        yield
    finally:
        sys.path[:] = path
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
        for name in [n for n in sys.modules if n == alias or n.startswith(f"{alias}.")]:
            del sys.modules[name]
