"""The request target: from the bytes of the request line to a path and a query.

A path is decoded once and then cleaned as Go's mux does it: empty, "." and
".." segments are resolved *after* percent-decoding, so no cell ever sees one,
however it was written (`/a/%2e%2e/b`, `/a%2F..%2Fb`). A path that cleaning
changes is not served; the client is sent to the clean one. An encoded slash
becomes a real one: `/a%2Fb` is the path `/a/b`, and clean.

Text is UTF-8. A path that is not is refused; in the query, where the rule is to
drop what cannot be read, the pair is dropped.
"""

from __future__ import annotations

import re
from posixpath import normpath
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from pulp_runtime._net.fault import RequestFault, bad

#: Most pairs in a query. Past it 400.
QUERY_PAIRS: Final = 1_000

_bad_escape: Final = re.compile("%(?![0-9A-Fa-f]{2})").search
_absolute: Final = re.compile("https?://([^/?#]*)(.*)", re.IGNORECASE).fullmatch

#: RFC 3986 §3.2.2: a registered name or a bracketed IPv6 address, and a port. No userinfo.
_host: Final = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?"
).fullmatch

#: What `quote` leaves alone in the path of a Location.
_PATH_SAFE: Final = "/:@!$&'()*+,;=~"


class Target(NamedTuple):
    """A request target taken apart.

    Attributes:
        path: decoded and clean, or "*".
        query: first value of each name, decoded.
        host: host and port of the absolute form, which overrule the Host
            header (RFC 9112 §3.2.2); "" for the other forms.
        redirect: where to send the client when its path was not clean, else "".
    """

    path: str
    query: dict[str, str]
    host: str
    redirect: str


def parse_target(method: str, target: str) -> Target:
    """Take a request target apart; `target` is visible ASCII.

    Raises:
        RequestFault: 400, the target is in no form that `method` may use, or
            cannot be decoded.
    """
    if target == "*" and method == "OPTIONS":
        return Target("*", {}, "", "")
    host = ""
    if not target.startswith("/"):
        absolute = _absolute(target)
        if absolute is None:
            raise bad("invalid request target")
        host, target = absolute.groups()
        if not host or not is_host(host):
            raise bad("invalid host in request target")
    if "#" in target:
        raise bad("fragment in request target")
    raw_path, mark, raw_query = target.partition("?")
    path = decode_path(raw_path or "/")
    clean = clean_path(path)
    redirect = "" if clean == path else quote(clean, safe=_PATH_SAFE) + mark + raw_query
    return Target(clean, parse_query(raw_query), host, redirect)


def is_host(value: str) -> bool:
    """Return whether a Host value is a host with an optional port, or empty, and nothing more."""
    return _host(value) is not None


def decode_path(raw: str) -> str:
    """Return a path with its percent-escapes decoded.

    Raises:
        RequestFault: 400, an escape is not two hexadecimal digits, or the path
            is not UTF-8 or holds a NUL.
    """
    if "%" not in raw:
        return raw
    if _bad_escape(raw):
        raise bad("invalid escape in path")
    try:
        path = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise bad("path is not UTF-8") from None
    if "\0" in path:
        raise bad("NUL in path")
    return path


def clean_path(path: str) -> str:
    """Return the shortest path that means the same, as Go's `cleanPath` does.

    The trailing slash stays; one left behind by a final "/." does not.
    """
    if "//" not in path and "/." not in path:
        return path
    clean = normpath(path)
    if clean.startswith("//"):  # POSIX gives two leading slashes a meaning; URLs do not
        clean = clean[1:]
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def parse_query(raw: str) -> dict[str, str]:
    """Return the first value of each name of a query.

    As Go's `ParseQuery` does: a pair that holds a ";" or cannot be decoded is
    dropped, and so is an empty one; a name without "=" has the value "".

    Raises:
        RequestFault: 400, more than 1 000 pairs.
    """
    if not raw:
        return {}
    if raw.count("&") >= QUERY_PAIRS:
        raise RequestFault(400, "too many query parameters")
    found: dict[str, str] = {}
    for pair in raw.split("&"):
        if not pair or ";" in pair:
            continue
        name, _, value = pair.partition("=")
        decoded_name = _decode_form(name)
        decoded_value = _decode_form(value)
        if decoded_name is not None and decoded_value is not None:
            found.setdefault(decoded_name, decoded_value)
    return found


def _decode_form(raw: str) -> str | None:
    """Decode `+` and escapes; None if that gives no text."""
    if "+" in raw:
        raw = raw.replace("+", " ")
    if "%" not in raw:
        return raw
    if _bad_escape(raw):
        return None
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return None
