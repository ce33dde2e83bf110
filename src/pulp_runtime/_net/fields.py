"""Header names and values: what is allowed, and what is canonical.

One table for both directions: what a client may send and what a cell may
answer are checked by the same sets of bytes (RFC 9110 §5.1, §5.5).
"""

from __future__ import annotations

import re
from typing import Final

#: RFC 9110 §5.6.2, as a character class for larger patterns.
TCHAR: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"

is_token: Final = re.compile(f"{TCHAR}+").fullmatch
is_token_bytes: Final = re.compile(f"{TCHAR}+".encode()).fullmatch

#: The first character a field value may not hold: a control other than HTAB.
forbidden_in_value: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
forbidden_in_value_bytes: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search

#: Canonical names seen before; bounded because clients choose the names.
_NAMES_KEPT: Final = 1_024
_names: Final[dict[str, str]] = {}


def canonical_name(name: str) -> str:
    """Return a header name as Go spells it: `x-service-token` is `X-Service-Token`.

    The first letter and every letter after a hyphen are upper case, all others
    lower case. `name` must be a token; anything else has no canonical form.
    """
    known = _names.get(name)
    if known is not None:
        return known
    canonical = "-".join(part.capitalize() for part in name.split("-"))
    if len(name) <= 64:
        if len(_names) >= _NAMES_KEPT:
            _names.clear()
        _names[name] = canonical
    return canonical
