"""SQLite's dialect in PostgreSQL's words (spec/capabilities §8.7).

    ?  ?3  $3                          $1, $2, …
    X'0AFF'                            decode('0AFF', 'hex')
    INTEGER                            BIGINT
    BLOB                               BYTEA
    INTEGER PRIMARY KEY AUTOINCREMENT  BIGSERIAL PRIMARY KEY

What PostgreSQL has no word for is refused with a sentence that says what to write instead.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from pulp_ext_postgres.lexer import Token, tokens

MOST_SQL_BYTES: Final = 1024 * 1024
MOST_PARAMETERS: Final = 65_535
"""Of one statement; the protocol counts them in 16 bits."""
_KEPT: Final = 512
_KEPT_CHARACTERS: Final = 4_096

_TYPES: Final = {"INTEGER": "BIGINT", "BLOB": "BYTEA"}
_INSTEAD: Final = {
    "PRAGMA": "PostgreSQL has no pragmas; leave it out",
    "VACUUM": "the server vacuums by itself; leave it out",
    "ATTACH": "a cell has one database; use tables of its own",
    "DETACH": "a cell has one database; use tables of its own",
    "REPLACE": "write INSERT ... ON CONFLICT (...) DO UPDATE SET ...",
    "COPY": "rows go through statements; write INSERT or SELECT",
}


class DialectError(ValueError):
    """SQL that is refused before the server sees it; the text says what to write instead."""


class Statement(NamedTuple):
    """One statement, ready to be sent.

    Attributes:
        sql: in PostgreSQL's dialect.
        parameters: how many it takes.
        verb: its first word, upper case; "" if it begins with something else.
        partial: whether it is `ROLLBACK TO`, which ends no transaction.
    """

    sql: str
    parameters: int
    verb: str
    partial: bool


def translate(sql: str) -> tuple[Statement, ...]:
    """Return the statements of `sql`; empty ones drop out.

    Raises:
        DialectError: one of them is refused.
    """
    return _remembered(sql) if len(sql) <= _KEPT_CHARACTERS else _translate(sql)


def _translate(sql: str) -> tuple[Statement, ...]:
    statements: list[list[Token]] = [[]]
    for token in tokens(sql):
        if token[1][0] == ";" and token[0] == "mark":
            statements.append([])
        else:
            statements[-1].append(token)
    return tuple(_statement(parts) for parts in statements if any(kind != "space" for kind, _text in parts))


_remembered: Final = lru_cache(_KEPT)(_translate)


def _statement(parts: list[Token]) -> Statement:
    words = [text.upper() if kind == "word" else "" for kind, text in parts if kind != "space"]
    _refuse(words)
    numbered = _Numbers()
    out: list[str] = []
    for at, (kind, text) in enumerate(parts):
        word = text.upper() if kind == "word" else ""
        if kind == "parameter":
            out.append(numbered.take(text))
        elif kind == "hex":
            out.append(f"decode({text[1:]}, 'hex')")
        elif word == "AUTOINCREMENT":
            _count_by_itself(parts, out)
            out.append("")
        elif word in _TYPES and not _qualified(parts, at):
            out.append(_TYPES[word])
        else:
            out.append(text)
    partial = words[0] == "ROLLBACK" and "TO" in words[1:3]
    return Statement("".join(out).strip(), numbered.most, words[0], partial)


def _refuse(words: list[str]) -> None:
    verb = words[0]
    if verb in _INSTEAD:
        raise DialectError(f"{verb} is refused: {_INSTEAD[verb]}")
    if any(one == "INSERT" and after == "OR" for one, after in pairwise(words)):
        raise DialectError("INSERT OR ... is refused: write INSERT ... ON CONFLICT DO NOTHING, or DO UPDATE SET ...")


def _qualified(parts: list[Token], at: int) -> bool:
    """Tell whether the word is part of a dotted name."""
    before = parts[at - 1][1] if at else ""
    after = parts[at + 1][1] if at + 1 < len(parts) else ""
    return before == "." or after == "."


def _count_by_itself(parts: list[Token], out: list[str]) -> None:
    """Give the column that is being defined a type that counts: the one that stands before, in the same definition.

    Raises:
        DialectError: there is none.
    """
    depth = 0
    for at in range(len(out) - 1, -1, -1):
        kind, text = parts[at]
        mark = text if kind == "mark" else ""
        depth += mark.count(")") - mark.count("(")
        if depth < 0 or (mark.startswith(",") and not depth):
            break
        if not depth and kind == "word" and out[at] == "BIGINT":
            out[at] = "BIGSERIAL"
            return
    raise DialectError("AUTOINCREMENT is refused here: it belongs behind INTEGER PRIMARY KEY")


class _Numbers:
    """Numbers parameters: `?` is one more than the largest so far.

    Attributes:
        most: the largest number so far.
    """

    def __init__(self) -> None:
        self.most = 0

    def take(self, text: str) -> str:
        """Return how PostgreSQL writes the parameter `text`.

        Raises:
            DialectError: its number is 0, or more than the protocol has room for.
        """
        number = int(text[1:]) if len(text) > 1 else self.most + 1
        if not 1 <= number <= MOST_PARAMETERS:
            raise DialectError(f"parameter {text} is refused: numbers go from 1 to {MOST_PARAMETERS}")
        self.most = max(self.most, number)
        return f"${number}"
