"""The grammar of names, and what to say about one that does not follow it.

A cell's name becomes a directory, a key in logs, an address and a word on the
command line, so there is one narrow grammar for all of them.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

#: What an application's manifest is called in its folder.
APP_MANIFEST: Final = "pulp.app.toml"
#: What the manifest of a host of several applications is called in its folder.
HOST_MANIFEST: Final = "pulp.host.toml"

NAME_CHARACTERS: Final = 63
NAME_RULE: Final = (
    f'a name has 1 to {NAME_CHARACTERS} characters: a lower-case letter, then lower-case letters, digits, "_" or "-"'
)
CAPABILITY_RULE: Final = (
    'a capability is lower-case letters and digits in words joined by ".", "_" or "-", as in "storage.kv"'
)

INSTANCE_RULE: Final = (
    f'the name of an instance has 1 to {NAME_CHARACTERS} characters: lower-case letters, digits, "_" or "-", '
    "first a letter or a digit"
)

#: Import modules of every guest, and the host's own scope.
RESERVED_NAMES: Final = frozenset({"pulp", "wasi_snapshot_preview1", "host"})

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_INSTANCE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_CAPABILITY: Final = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_FALLBACK: Final = "my-cell"
_QUOTED_CHARACTERS: Final = 80


def explain_name(name: str) -> str | None:
    """Say what is wrong with the name of a cell and how to write it; None if nothing is."""
    if name in RESERVED_NAMES:
        return f'{quote(name)} is reserved for the host itself; write for example "{name}-cell"'
    if _NAME.fullmatch(name):
        return None
    return f"{quote(name)} {_fault(name)}; {NAME_RULE}; write for example {quote(nearest_name(name))}"


def explain_identifier(name: str) -> str | None:
    """Say what is wrong with the name of an application, of an instance of one, or of a namespace; None if nothing is.

    It ends up in addresses and folder names.
    """
    return None if _NAME.fullmatch(name) else f"{quote(name)} {_fault(name)}; {NAME_RULE}"


def explain_instance(name: str) -> str | None:
    """Say what is wrong with the name of a placement; None if nothing is. It ends up in addresses and folder names."""
    if _INSTANCE.fullmatch(name):
        return None
    if "@" in name:
        return (
            f'{quote(name)} may not contain "@", which joins cell and instance in an address; write the part after it'
        )
    return f"{quote(name)} {_fault(name)}; {INSTANCE_RULE}"


def explain_capability(name: str) -> str | None:
    """Say what is wrong with the name of a capability, in any case; None if nothing is.

    A character that only looks like a Latin letter is named, for the author
    cannot see it. Some of them become Latin in lower case, so that comes last.
    """
    odd = next((char for char in name if not re.fullmatch(r"[A-Za-z0-9._-]", char)), None)
    if odd is not None:
        return f"{quote(name)} contains {describe(odd)}; {CAPABILITY_RULE}"
    if _CAPABILITY.fullmatch(name.lower()):
        return None
    return f"{quote(name)} begins, ends or doubles a joint; {CAPABILITY_RULE}"


def describe(char: str) -> str:
    """Return a character as its author sees it, with its name and number in Unicode."""
    return f"{quote(char)} ({unicodedata.name(char, 'a control character')}, U+{ord(char):04X})"


def quote(text: str) -> str:
    """Return `text` in quotation marks, shortened, with nothing in it that a terminal would act on."""
    shown = text if len(text) <= _QUOTED_CHARACTERS else text[: _QUOTED_CHARACTERS - 1] + "…"
    safe = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in shown)
    return f'"{safe}"'


def _fault(name: str) -> str:
    odd = next((char for char in name if not re.fullmatch(r"[a-z0-9_-]", char)), None)
    if odd is not None:
        return f"contains {describe(odd)}"
    if len(name) > NAME_CHARACTERS:
        return f"is {len(name)} characters long"
    return f"starts with {describe(name[0])}"


def nearest_name(name: str) -> str:
    """Return the name of a cell that is most like `name`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    joined = re.sub(r"[^a-z0-9_-]+", "-", plain).lstrip("0123456789_-")[:NAME_CHARACTERS].rstrip("_-")
    return joined if joined and joined not in RESERVED_NAMES else _FALLBACK
