"""Numbers and names in sentences."""

from collections.abc import Iterable

LISTED = 5


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 class, 2 classes, 1,200 images."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def listed(names: Iterable[str], most: int = LISTED) -> str:
    """The first names and how many more there are; characters that a terminal would obey are shown as escapes."""
    shown = [printable(name) for name in names]
    more = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {more:,} more" if more > 0 else "")


def printable(name: str) -> str:
    """A name on one line that does nothing to a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)
