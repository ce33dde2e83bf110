"""SQL as tokens: enough to know what is a word, what is quoted, and where a statement ends.

The rules are PostgreSQL's (manual, 4.1 Lexical Structure) with SQLite's parameters: `?`, `?1`, `$1`. What stands in
quotes, dollar quotes and comments is one token each, whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_TOKEN: Final = re.compile(
    r"""
    (?P<space>\s+ | --[^\r\n]*)
  | (?P<comment>/\*)
  | (?P<hex>[xX]'[0-9a-fA-F]*')
  | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*+(?:'|\Z))
  | (?P<quoted>(?:[nN]|[bB]|[uU]&)?'(?:[^']|'')*+(?:'|\Z) | (?:[uU]&)?"(?:[^"]|"")*+(?:"|\Z))
  | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$)
  | (?P<parameter>\?\d{0,9} | \$\d{1,9})
  | (?P<number>\.?\d[\w.]*)
  | (?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)
  | (?P<mark>\(+ | \)+ | ,+ | ;+ | \.+ | [=<>+*%^&|!~@\#:\[\]{}]+ | .)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT: Final = re.compile(r"/\*|\*/")


Token = tuple[str, str]
"""What it is, and how it is written: `space` (comments too), `hex`, `quoted`, `parameter`, `number`, `word` or `mark`,
of which equal brackets, commas, semicolons and dots in a row are one."""


def tokens(sql: str) -> Iterator[Token]:
    """Split SQL; what is not closed reaches to the end."""
    at, size, match = 0, len(sql), _TOKEN.match
    while at < size:
        found = match(sql, at)
        assert found is not None  # noqa: S101  # the last branch takes any character
        kind, end = str(found.lastgroup), found.end()
        if kind == "comment":
            kind, end = "space", _comment_end(sql, end)
        elif kind == "dollar":
            close = sql.find(found.group(), end)
            kind, end = "quoted", size if close < 0 else close + len(found.group())
        elif kind == "escaped":
            kind = "quoted"
        yield kind, sql[at:end]
        at = end


def _comment_end(sql: str, at: int) -> int:
    """Return where a comment ends whose opening ends at `at`; comments nest."""
    depth = 1
    for found in _COMMENT.finditer(sql, at):
        depth += 1 if found.group() == "/*" else -1
        if not depth:
            return found.end()
    return len(sql)
