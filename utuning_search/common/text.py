"""Text from files and names on its way to a screen, a shell or a line of Python."""

import json
import re

# What moves a cursor, changes colours or turns the direction of writing; line ends and tabs may stay.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """The same with control characters as escapes such as \\x1b: a name must not write over what is around it."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def python_string(value: object) -> str:
    """A value's text as a string of Python's, in double quotes."""
    return json.dumps(str(value), ensure_ascii=False)
