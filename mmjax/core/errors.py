"""The one exception that is meant for the person at the keyboard."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The message is one to three lines: what is wrong, where, and how to mend it.

    The command line prints it without a traceback and exits with status 2; library users see a ValueError.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))


def printable(text: str) -> str:
    """`text` with whatever a terminal would obey, or not show, as an escape (names of files may hold it); lines stay lines."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def suggest(name: str, choices: Iterable[str]) -> str:
    """Returns `" Did you mean 'x'?"` for the closest of `choices`, or an empty string where none is close."""
    close = difflib.get_close_matches(str(name), [str(c) for c in choices], n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
