"""Fields of a manifest, read with the type their reader expects."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.names import quote
from pulp_runtime.manifest.toml import Source, dotted, parse_toml, read_source

#: What a table may hold: each field, and for a table or an array of tables what that may hold in
#: turn; None for anything at all.
Known = Mapping[str, "Known | None"]

_UINT32: Final = range(1 << 32)
#: Unknown fields, the first ones, whose nearest known name is looked for: the search is slow.
_ADVISED: Final = 10
#: In this order, for a boolean is an integer to Python.
_KINDS: Final[Mapping[type, str]] = {
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    str: "a string",
    list: "an array",
    dict: "a table",
    object: "a date or time",
}


class Table:
    """One table of a manifest; every reader answers a default where the field is absent.

    Attributes:
        source: the file it stands in.
        values: as parsed.
        name: dotted, "" for the document itself.
    """

    def __init__(self, source: Source, values: Mapping[str, object], name: str = "") -> None:
        self.source: Final = source
        self.values: Final = values
        self.name: Final = name

    @property
    def path(self) -> Path:
        """The file's absolute path."""
        return self.source.path

    def text(self, key: str, default: str = "") -> str:
        """Return a string."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self._mistyped(key, value, "a string", '"..."')
        return value

    def integer(self, key: str, default: int = 0) -> int:
        """Return an integer of 64 bits."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._mistyped(key, value, "an integer", "1")
        return value

    def uint32(self, key: str, default: int = 0) -> int:
        """Return an integer from 0 to 4,294,967,295."""
        value = self.integer(key, default)
        if value not in _UINT32:
            name = dotted(self.name, key)
            raise self.source.unparsed(f"{name}: {value} is out of range; write a number from 0 to {_UINT32[-1]}", name)
        return value

    def flag(self, key: str) -> bool:
        """Return a boolean, false where it is absent."""
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self._mistyped(key, value, "a boolean", "true")
        return value

    def texts(self, key: str) -> list[str]:
        """Return an array of strings."""
        value = self.values.get(key, [])
        if not isinstance(value, list):
            raise self._mistyped(key, value, "an array of strings", '["..."]')
        for item in value:
            if not isinstance(item, str):
                raise self._mistyped(key, item, "an array of strings", '["..."]')
        return value

    def table(self, key: str) -> Table | None:
        """Return a table, None where it is absent."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._mistyped(key, value, "a table", "{ ... }")
        return Table(self.source, value, dotted(self.name, key))

    def tables(self, key: str) -> list[Table]:
        """Return an array of tables."""
        value = self.values.get(key, [])
        name = dotted(self.name, key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._mistyped(key, value, "an array of tables", "[{ ... }]")
        return [Table(self.source, item, name) for item in value]

    def invalid(self, reason: str, *, field: str) -> ManifestError:
        """Return the error for a value that has the right type and cannot be accepted."""
        return ManifestError(self.path, f"validate manifest: {reason}", field=dotted(self.name, field))

    def refuse_unknown(self, known: Known, *, otherwise: str) -> None:
        """Refuse fields that `known` does not have, all of them in one error.

        Args:
            known: every field there is, tables within tables included.
            otherwise: what to do with a field that resembles no known one.
        """
        found = dict(_unknown(self.values, known, self.name))
        if not found:
            return
        looked_at = list(found.items())[:_ADVISED]
        near = {path: _resembled(path, names) for path, names in looked_at}
        advice = [f"write {name} instead of {quote_path(path)}" for path, name in near.items() if name]
        if len(advice) < len(found):
            advice.append(otherwise)
        listed = ", ".join(quote_path(path) for path in found)
        raise ManifestError(
            self.path, f"unknown manifest fields: {listed}; {'; '.join(advice)}", field=next(iter(found))
        )

    def _mistyped(self, key: str, value: object, wanted: str, example: str) -> ManifestError:
        name = dotted(self.name, key)
        got = next(words for kind, words in _KINDS.items() if isinstance(value, kind))
        return self.source.unparsed(f"{name}: {wanted} is needed, not {got}; write {key} = {example}", name)


def read_table(path: Path) -> Table:
    """Read a TOML file and return the table that is the whole document.

    Raises:
        ManifestError: as `read_source` and `parse_toml` say.
    """
    source = read_source(path)
    return Table(source, parse_toml(source))


def quote_path(path: str) -> str:
    """Return a dotted name fit for a terminal."""
    return quote(path)[1:-1]


def _unknown(values: Mapping[str, object], known: Known, name: str) -> Iterator[tuple[str, Known]]:
    """Yield each unknown field's dotted name and what its table may hold."""
    for key, value in values.items():
        path = dotted(name, key)
        inside: Known | None = {}
        if key in known:
            inside = known[key]
        else:
            yield path, known
        if inside is None:
            continue
        for table in value if isinstance(value, list) else [value]:
            if isinstance(table, dict):
                yield from _unknown(table, inside, path)


def _resembled(path: str, known: Known) -> str:
    """Return the known name that the last part of a dotted name is nearest to, "" for none."""
    key = path.rpartition(".")[2].lower().replace("-", "_")
    near = difflib.get_close_matches(key, known, n=1)
    return near[0] if near else ""
