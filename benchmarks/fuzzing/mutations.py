"""Valid inputs made odd: by bytes, by lines of text, and by the values in a tree of tables and lists."""

import copy
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

MOST = 4  # mutations of one input
ODD_BYTES = (b"\x00", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\n", b"\x7f\xff\xff\xff")
ODD_NUMBERS = (
    *(0, -1, 1, 2, 255, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400, -(10**400)),
    *(0.0, -0.0, 0.5, -0.5, 1e-320, 5e-324, 1e38, 1e300, 1e308, -1e308, float("inf"), float("-inf"), float("nan")),
)
ODD_TEXTS = (
    *("", " ", "\n", "\x00", "\x1b[31m", "\x07\x08\x7f\x9b", "\ufeff", "\u202e", "\u2028", "é", "e\u0301", "猫", "𝔸"),
    *(
        "٣",
        "²",
        "\ud800",
        "[bold]",
        "[/]",
        "{}",
        "%s",
        "../..",
        "/dev/null",
        "a/b",
        "-rf",
        "nan",
        "inf",
        "1e400",
        "None",
    ),
    *("true", "none", "all", "any", "each", "1", "0", "1-", "first 0", "last 1/0", "every 0", "1" * 5000, "x" * 300),
    "x" * 70_000,
)
PATTERN = re.compile(r"\"[^\"\n]*\"|\d+(?:\.\d+)?(?:e-?\d+)?|true|false|\[[^\[\]\n]*\]")
ODD_TOKENS = (
    *("", "0", "-1", "1e400", "-1e400", "nan", "inf", "9" * 400, "9" * 5000, "1" * 25, "0x7fffffff", "1.5", "-0.0"),
    *('""', '"\\u0000"', '"\\ud800"', '"\x1b[2J"', "'''", '"""', "true", "null", "[]", "{}", "[[]]", '{"a":1}'),
    *("{a = 1}", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", '"猫"', "猫", "[" * 3000, "{a=" * 1500),
    *('{"a":' * 3000, "[" * 900 + "]" * 900, "#", "=", ".", "a.b.c", "[[a]]", "[a]"),
)
Draw = random.Random
Change = Callable[[Draw, Any], Any]


def mutated_bytes(draw: Draw, content: bytes, head: int = 0) -> bytes:
    """Bytes changed, cut, doubled, moved or put in; half of the places within the first `head`, if that is given."""
    data = bytearray(content)
    for _ in range(draw.randint(1, MOST)):
        most = min(head, len(data)) if head and draw.random() < 0.5 else len(data)
        at = draw.randrange(max(most, 1))
        length = min(int(2 ** draw.uniform(0, 8)), len(data) - at)
        kind = draw.randrange(8)
        if kind == 0 and data:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1 and data:
            data[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            data[at:at] = draw.choice(ODD_BYTES)
        elif kind == 5:
            del data[at:]
        elif kind == 6:  # a length or an offset, often
            width = draw.choice((2, 4, 8))
            value = draw.choice((0, 1, 2**31 - 1, 2**31, 2**width, 256**width - 1, len(data))) % 256**width
            data[at : at + width] = value.to_bytes(width, draw.choice(("little", "big")))
        else:
            other = draw.randrange(len(data) + 1)
            data[at:at] = data[other : other + length]
    return bytes(data)


def mutated_text(draw: Draw, text: str) -> str:
    """Lines left out, doubled, swapped or cut, and values replaced by odd ones."""
    for _ in range(draw.randint(1, MOST)):
        kind = draw.randrange(6)
        lines = text.split("\n")
        at = draw.randrange(len(lines))
        if _rearranged(draw, lines, at, kind):
            pass
        elif kind == 3:
            lines[at] = lines[at][: draw.randrange(len(lines[at]) + 1)]
        else:
            found = list(PATTERN.finditer(text))
            if found:
                match = draw.choice(found)
                text = text[: match.start()] + draw.choice(ODD_TOKENS) + text[match.end() :]
                continue
            lines.insert(at, draw.choice(ODD_TOKENS))
        text = "\n".join(lines)
    return text


def mutated_words(draw: Draw, text: str) -> str:
    """Words between colons, equal signs and commas, left out, doubled or replaced."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        cuts = [i + 1 for i, c in enumerate(text) if c in ",:="]
        at = draw.choice((0, len(text), draw.randrange(len(text) + 1), *cuts))
        cut = text.split(draw.choice(",:="))
        odd = draw.choice((*ODD_TEXTS, *map(str, ODD_NUMBERS), *cut, "all", ",", ":", "="))
        text = text[:at] + odd + text[at + draw.choice((0, 0, 1, 5)) :]
    return text


def mutated_tree(draw: Draw, tree: Any) -> Any:
    """A copy of tables, lists, texts and numbers, with some of its values replaced, left out, doubled or renamed."""
    found = [copy.deepcopy(tree)]
    for _ in range(draw.randint(1, MOST)):
        places = list(_places(found))
        above, key = draw.choice(places)
        kind = draw.randrange(7)
        if kind == 0 and above is not found:
            del above[key]
        elif kind == 1 and isinstance(above, dict):
            above[draw.choice((*ODD_TEXTS, *map(str, above)))] = copy.deepcopy(above[key])
        elif kind == 2 and isinstance(above, list) and above is not found:
            above.insert(key, copy.deepcopy(above[key]))
        elif kind == 3:
            other, name = draw.choice(places)
            above[key] = copy.deepcopy(other[name])
        else:
            above[key] = odd_value(draw, above[key])
    return found[0]


def odd_value(draw: Draw, value: Any) -> Any:
    """In the place of a value: one of the same type, or of another."""
    if draw.random() < 0.4:
        if isinstance(value, str) and value:
            at = draw.randrange(len(value) + 1)
            return value[:at] + draw.choice(ODD_TEXTS) + value[at:]
        if isinstance(value, bool):
            return not value
        if isinstance(value, int | float):
            return draw.choice((value + 1, -value, value * 2, value / 2 if abs(value) < 1e300 else 0.5, *ODD_NUMBERS))
    odd = (draw.choice(ODD_NUMBERS), draw.choice(ODD_TEXTS), None, True, [], {}, [value], {"a": value}, [value, value])
    return copy.deepcopy(draw.choice((*odd, [[]], [None], {"": None})))


def _places(tree: Any) -> Sequence[tuple[Any, Any]]:
    """(container, key) of every value in a tree, which is a list or a table."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        above = waiting.pop()
        for key in list(above) if isinstance(above, dict) else range(len(above)):
            found.append((above, key))
            if isinstance(above[key], dict | list):
                waiting.append(above[key])
    return found


def writable(tree: Any) -> Any:
    """A tree without what TOML cannot say: None is left out."""
    if isinstance(tree, dict):
        return {str(k): writable(v) for k, v in tree.items() if v is not None}
    return [writable(v) for v in tree if v is not None] if isinstance(tree, list | tuple) else tree


def mutated_json(draw: Draw, content: bytes) -> bytes:
    """JSON of another tree, another text or other bytes."""
    kind = draw.random()
    if kind < 0.2:
        return mutated_bytes(draw, content)
    if kind < 0.4:
        return mutated_text(draw, content.decode()).encode("utf-8", "surrogatepass")
    return json.dumps(mutated_tree(draw, json.loads(content)), ensure_ascii=draw.random() < 0.5).encode(
        "utf-8", "surrogatepass"
    )


def mutated_lines(draw: Draw, content: bytes) -> bytes:
    """A journal with some of its lines changed, most of them as JSON; or cut or changed anywhere."""
    if draw.random() < 0.1:
        return mutated_bytes(draw, content)
    lines = content.splitlines(keepends=True)
    for _ in range(draw.randint(1, MOST)):
        at, kind = draw.randrange(len(lines)), draw.randrange(8)
        if _rearranged(draw, lines, at, kind):
            continue
        try:
            lines[at] = mutated_json(draw, lines[at].removesuffix(b"\n")) + b"\n"
        except (ValueError, IndexError, RecursionError):  # it was changed before
            lines[at] = mutated_bytes(draw, lines[at])
    return b"".join(lines)


def _rearranged(draw: Draw, lines: list[Any], at: int, kind: int) -> bool:
    """Leave a line out, double it, or swap it with another one, by kinds 0 to 2; whether it was one of these."""
    if kind == 0 and len(lines) > 1:
        del lines[at]
    elif kind == 1:
        lines.insert(draw.randrange(len(lines) + 1), lines[at])
    elif kind == 2:
        other = draw.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    else:
        return False
    return True
