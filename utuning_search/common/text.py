"""Text from files and names on its way to a screen, a shell or a line of Python."""

import json
import re

# What moves a cursor, changes colours, turns the direction of writing, ends a line or takes no room: of two names that
# look alike one may hold it. Line ends and tabs may stay, and joiners, which are letters of some scripts and of emoji.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)


def visible(text: str) -> str:
    """The same with control characters as escapes such as \\x1b: a name must not write over what is around it."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def python_string(value: object) -> str:
    """A value's text as a string of Python's, in double quotes."""
    return json.dumps(str(value), ensure_ascii=False)
