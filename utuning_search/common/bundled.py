"""The TOML files that come with the package, found by name in a checkout and in an installed wheel alike."""

from pathlib import Path

from utuning_search.common.errors import InputError, nearest

_PACKAGE = Path(__file__).parents[1]
# In a wheel the folders lie inside the package; in a checkout they lie at its top, where they are read and edited.
FOLDERS = {
    "space": (_PACKAGE / "search_spaces", _PACKAGE.parent / "search_spaces"),
    "task": (_PACKAGE / "tasks", _PACKAGE.parent / "studies" / "tasks"),
}


def bundled(kind: str) -> dict[str, Path]:
    """Names and files of the bundled spaces (`kind` "space") or tasks ("task"), by name."""
    for folder in FOLDERS[kind]:
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return {}


def find(kind: str, name: str) -> Path:
    """The file of a bundled name, or the path itself where `name` is one of a .toml file."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"--{kind} {name}", "the file exists", "no such file")
        return path
    known = bundled(kind)
    if name not in known:
        todo = f"{nearest(name, known)} Your own: --{kind} path/to/file.toml"
        raise InputError(f"--{kind}", f"the {kind} is a bundled name or a .toml file", f"'{name}'", todo)
    return known[name]
