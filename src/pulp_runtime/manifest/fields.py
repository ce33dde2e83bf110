"""Fields that several kinds of manifest have in common."""

from __future__ import annotations

import os
import re
from pathlib import Path, PureWindowsPath
from typing import Final

from pulp_runtime.manifest.names import quote
from pulp_runtime.manifest.table import Table

MAX_NAME_CHARACTERS: Final = 128
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def schema_version(table: Table, newest: int, what: str = "") -> int:
    """Return the format's version, `newest` where the field is 0 or absent; `what` goes before its name in errors."""
    found = table.integer("schema_version") or newest
    if found > newest:
        reason = f"is newer than host supports (max {newest}); update the host or write {newest}"
    elif found < 1:
        reason = f"is not a version; write {newest} or leave it out"
    else:
        return found
    raise table.invalid(f"{what}schema_version {found} {reason}", field="schema_version")


def version(table: Table) -> str:
    """Return the version, which is for people."""
    found = table.text("version").strip()
    if not found:
        raise table.invalid('version is required; write for example version = "0.1.0"', field="version")
    return found


def sha256(table: Table, key: str) -> str | None:
    """Return a digest in lower case, None where the field is absent."""
    if key not in table.values:
        return None
    digest = table.text(key).strip().lower()
    if not digest:
        reason = f"{key} is required once the field is there"
    elif not _SHA256.fullmatch(digest):
        reason = f"{key} {quote(digest)} is not 64 hexadecimal digits"
    else:
        return digest
    raise table.invalid(f"{reason}; write the output of sha256sum, or remove the field", field=key)


def title(table: Table, example: str) -> str:
    """Return the name of an application or of a host, which is for people and logs."""
    name = table.text("name").strip()
    if not name:
        raise table.invalid(f'name is required; write for example name = "{example}"', field="name")
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        reason = f"name {quote(name)} has control characters, or more than {MAX_NAME_CHARACTERS} characters"
        raise table.invalid(f"{reason}; write a shorter one in plain letters", field="name")
    return name


def relative_path(table: Table, text: str, what: str, field: str, file: str) -> Path:
    """Return the absolute path that one relative to its manifest, called `file`, stands for; `a/../x` is `x`."""
    text = text.strip()
    if not text:
        reason = f"{what} is required; write a path relative to {file}"
    elif "\0" in text:
        reason = f"{what} contains a NUL character; write the path without it"
    elif os.path.isabs(text) or PureWindowsPath(text).is_absolute():
        reason = f"{what} {quote(text)} must be relative to {file}; write the way from there"
    else:
        return Path(os.path.normpath(table.path.parent / text))
    raise table.invalid(reason, field=field)
