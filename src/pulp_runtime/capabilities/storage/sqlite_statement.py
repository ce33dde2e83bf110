"""SQL text taken apart: its statements, and which value each parameter of a statement gets (spec/capabilities §8.3).

Only as much of SQLite's grammar is known here as it takes to tell a `;` that ends a statement from one in a string, a
comment or a trigger's body, and a parameter from a `?` in a string. What is wrong with a statement is SQLite's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

LONG_TEXT: Final = 16_384
"""A text longer than this, without parameters, is not taken apart word by word when it holds a single statement."""

_TOKEN: Final = re.compile(
    r"""
    (?P<space>[ \t\n\f\r\ufeff]+ | --[^\n]* | /\*.*?(?:\*/|\Z))
  | (?P<quoted>'[^']*(?:''[^']*)*'? | "[^"]*(?:""[^"]*)*"? | `[^`]*(?:``[^`]*)*`? | \[[^\]]*\]?)
  | (?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)
  | (?P<parameter>\?\d* | [$@:\#](?:[\w$\x80-\U0010ffff]|::)+(?:\([^\s)]*\))?)
  | (?P<number>\d[\w.$]*)
  | (?P<end>;)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_FIRST_WORD: Final = re.compile(r"(?:[ \t\n\f\r\ufeff;]|--[^\n]*|/\*.*?(?:\*/|\Z))*([A-Za-z]*)", re.DOTALL)
_TRIGGER: Final = re.compile(r"(?:EXPLAIN (?:QUERY PLAN )?)?CREATE (?:TEMP |TEMPORARY )?TRIGGER\b")
_HEAD_WORDS: Final = 6
_READS: Final = frozenset({"SELECT", "VALUES"})
_COUNTED: Final = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE"})
_CHANGES_SCHEMA: Final = frozenset({"CREATE", "DROP", "ALTER", "ROLLBACK", "VACUUM"})


class ParameterMissing(Exception):
    """A statement that wants a value nobody gave it; the text is for the guest."""


class Token:
    """A word, a name, a sign: `kind` is the group of the pattern it matched, `text` what it is."""

    __slots__ = ("at", "kind", "text")

    def __init__(self, kind: str, text: str, at: int) -> None:
        self.kind: Final = kind
        self.text: Final = text
        self.at: Final = at


def tokens(sql: str) -> Iterator[Token]:
    """Return the tokens of `sql` without space and comments."""
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup or ""
        if kind != "space":
            yield Token(kind, match[0], match.start())


@dataclass(slots=True)
class Statement:
    """One statement, and what is worth remembering of it from one run to the next.

    Attributes:
        text: what SQLite is given.
        keyword: its first word, in capitals.
        ordinals: for each of its parameters, which value it gets, counted from 0.
        plain: whether parameter n gets value n.
        names: the parameters that are numbered `$1`, `$2`, …, for SQLite's sake by name; None if it has others too.
        missing: name of a parameter that cannot be given a value, "" if there is none.
        takes: how many values it uses up.
        counts: whether SQLite must be asked how many rows it changed.
        generation: of the schema that the rest is true for, -1 for none.
        columns: how many its result has.
        header: its result up to the rows.
        dated: columns whose declared type is a date.
        reads: whether it surely changes nothing, and may be run again.
        counted: whether it is a change whose rows SQLite's module counts, and nothing else.
    """

    text: str
    keyword: str
    ordinals: tuple[int, ...] = ()
    plain: bool = True
    names: tuple[str, ...] | None = None
    missing: str = ""
    takes: int = 0
    counts: bool = False
    generation: int = -1
    columns: int = 0
    header: bytes = b""
    dated: tuple[int, ...] = ()
    reads: bool = field(init=False)
    counted: bool = field(init=False)

    @property
    def changes_schema(self) -> bool:
        """Whether names and types may mean something else after it."""
        return self.keyword in _CHANGES_SCHEMA

    def __post_init__(self) -> None:
        self.reads = self.keyword in _READS
        self.counted = self.keyword in _COUNTED and not self.counts

    def bind(self, values: Sequence[object], used: int) -> Sequence[object] | dict[str, object]:
        """Return the statement's share of `values`, of which `used` have been used up by those before it.

        Raises:
            ParameterMissing: there are too few, or it wants one by name.
        """
        if self.missing:
            raise ParameterMissing(f'missing named argument "{self.missing}"')
        left = len(values) - used
        if self.takes > left:
            raise ParameterMissing(f"missing argument with index {left + 1}")
        if self.names is not None:
            return dict(zip(self.names, [values[used + ordinal] for ordinal in self.ordinals], strict=True))
        if self.plain:
            return values if not used and not left - self.takes else values[used : used + self.takes]
        return [values[used + ordinal] for ordinal in self.ordinals]


def split(sql: str) -> tuple[Statement, ...]:
    """Return the statements of `sql`; none for nothing but space, comments and `;`."""
    if len(sql) > LONG_TEXT and ";" not in sql.rstrip("; \t\r\n") and not re.search(r"[?$@:#]", sql):
        return (_simple(sql),)
    found = []
    held: list[Token] = []
    for token in tokens(sql):
        if token.kind != "end":
            held.append(token)
        elif held and not _inside_trigger(held):
            found.append(_statement(sql, held))
            held = []
        elif held:
            held.append(token)
    if held:
        found.append(_statement(sql, held))
    return tuple(found)


def _simple(sql: str) -> Statement:
    """Return a long text that is a single statement without parameters."""
    match = _FIRST_WORD.match(sql)
    keyword = match[1].upper() if match else ""
    return Statement(sql, keyword, counts=keyword == "WITH" or "returning" in sql.lower())


def _inside_trigger(held: list[Token]) -> bool:
    """Tell whether a `;` behind these tokens is one in a trigger's body, which ends with `; END`."""
    head = " ".join(token.text.upper() for token in held[:_HEAD_WORDS])
    if not _TRIGGER.match(head):
        return False
    last = held[-2:]
    return not (len(last) == 2 and last[0].kind == "end" and last[1].text.upper() == "END")


def _statement(sql: str, held: list[Token]) -> Statement:
    words = {token.text.upper() for token in held if token.kind == "word"}
    keyword = held[0].text.upper()
    text = sql[held[0].at : held[-1].at + len(held[-1].text)]
    statement = Statement(text, keyword, counts=keyword == "WITH" or "RETURNING" in words)
    parameters = [token for token in held if token.kind == "parameter"]
    if parameters:
        _number(statement, parameters, held[0].at)
    return statement


def _number(statement: Statement, parameters: list[Token], start: int) -> None:
    """Number parameters as SQLite does: `?` is one more than the highest so far, a name keeps its first number."""
    by_name: dict[str, int] = {}
    highest = 0
    wanted: dict[int, int] = {}
    for token in parameters:
        digits = token.text[1:]
        if token.text == "?":
            number = highest + 1
        elif token.text[0] == "?":
            number = min(int(digits[:7]), 1_000_000)  # far past SQLite's own limit, which is for SQLite to name
        else:
            number = by_name.setdefault(token.text, highest + 1)
        highest = max(highest, number)
        if token.text[0] in "?$" and digits.isascii() and (digits.isdigit() or not digits):
            wanted.setdefault(number, int(digits[:7]) - 1 if token.text[0] == "$" else number - 1)
        else:
            statement.missing = statement.missing or digits
            statement.plain = False
    if highest > 100_000 or any(ordinal < 0 for ordinal in wanted.values()):
        return  # ?0, $0, ?1000000: refused by SQLite, or by the number of values
    statement.ordinals = tuple(wanted.get(number, number - 1) for number in range(1, highest + 1))
    statement.plain = not statement.missing and statement.ordinals == tuple(range(highest))
    statement.takes = max(statement.ordinals, default=-1) + 1
    dollars = [token for token in parameters if token.text[0] == "$"]
    if dollars and len(by_name) == highest:
        statement.names = tuple(name[1:] for name in by_name)
    elif dollars:
        statement.text = _renamed(statement.text, dollars, start, by_name)


def _renamed(text: str, dollars: list[Token], start: int, numbers: dict[str, int]) -> str:
    """Return a statement that has both kinds with `?NNN` for each `$NNN`: SQLite's module binds names or numbers."""
    for token in reversed(dollars):
        at = token.at - start
        text = f"{text[:at]}?{numbers[token.text]}{text[at + len(token.text) :]}"
    return text
