"""Which instance of which application has a path: prefixes, and requests without theirs.

A path is decoded and clean before it comes here (`_net.target`): nobody asks for `/shop/../admin`, however it is
written; the client is sent to the clean path first, which is routed by what it then says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pulp_runtime._net.fault import bad
from pulp_runtime._net.fields import forbidden_in_value
from pulp_runtime._net.head import MEMO_BYTES, MEMO_ENTRIES, RequestLine
from pulp_runtime._net.target import clean_path
from pulp_runtime.abi.http import pack_target
from pulp_runtime.errors import GatewayError

if TYPE_CHECKING:
    from pulp_runtime.capabilities.transport.gateway_headers import Headers
    from pulp_runtime.capabilities.transport.gateway_seat import GatewaySeat

MAX_ROUTES: Final = 1_024
"""Routes of a gateway."""
PREFIX_CHARACTERS: Final = 1_024
"""Longest prefix of a route."""

#: What a path holds unescaped (RFC 3986 §3.3).
_plain: Final = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*").fullmatch
_origin: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE).match


@dataclass(frozen=True, slots=True)
class GatewayRoute:
    """One route of the gateway.

    Attributes:
        path: the prefix: `/` for all that no other route has, or `/p` for `/p` and everything below `/p/`.
        application: id of the application that has it.
        instance: which of its instances.
    """

    path: str
    application: str
    instance: str


@dataclass(frozen=True, slots=True, eq=False)
class Destination:
    """Where a route leads.

    Attributes:
        route: the route.
        seat: the instance.
        headers: what headers its requests get.
    """

    route: GatewayRoute
    seat: GatewaySeat
    headers: Headers


class RoutedLine(RequestLine):
    """A request line without the prefix of its route.

    Attributes:
        destination: where the request goes.
    """

    __slots__ = ("destination",)

    def __init__(self, line: RequestLine, destination: Destination) -> None:
        """Take the prefix off.

        Raises:
            RequestFault: 400, a slash of the prefix, or the one behind it, is written `%2F`.
        """
        prefix = "" if destination.route.path == "/" else destination.route.path
        self.destination = destination
        self.prefix = prefix
        self.method, self.minor, self.host, self.redirect = line.method, line.minor, line.host, line.redirect
        self.query, self.packed_query = line.query, line.packed_query
        self.path = line.path[len(prefix) :] or "/"
        self.target = without_prefix(line.target, prefix)
        self.packed_target = pack_target(self.method, self.path) if prefix else line.packed_target


def without_prefix(target: str, prefix: str) -> str:
    """Return a request target, as sent, without a prefix that its decoded path begins with; its escapes stay.

    An encoded slash elsewhere is any application's own affair. In the prefix or right behind it, it would decide which
    application is asked, and whoever stands before this host and reads the path undecoded would have decided otherwise.

    Raises:
        RequestFault: 400, a slash of the prefix, or the one behind it, is encoded.
    """
    origin = None if target.startswith("/") else _origin(target)
    raw = target if origin is None else target[origin.end() :]
    at = 0
    for character in prefix:
        escaped = raw[at] == "%"
        if escaped and character == "/":
            raise bad("encoded slash in the application's part of the path")
        at += 3 if escaped else 1
    rest = raw[at:]
    if prefix and rest.startswith("%"):
        raise bad("encoded slash in the application's part of the path")
    return rest if rest.startswith("/") else "/" + rest


class PrefixTable:
    """Destinations by prefix; the longest one counts.

    Args:
        routes: at least one.
        lead: makes the destination of a route.

    Raises:
        GatewayError: see `Gateway`.
    """

    def __init__(self, routes: Sequence[GatewayRoute], lead: Callable[[GatewayRoute], Destination]) -> None:
        if not routes:
            raise GatewayError("the gateway has no routes: give at least one, or do without a gateway")
        if len(routes) > MAX_ROUTES:
            raise GatewayError(f"the gateway has {len(routes)} routes; there may be {MAX_ROUTES}")
        found: dict[str, Destination] = {}
        for route in routes:
            _check(route)
            before = found.get(route.path)
            if before is not None:
                raise GatewayError(
                    f"route {route.path!r} is ambiguous: {_whose(before.route)} and {_whose(route)}; "
                    "give one of them another path"
                )
            found[route.path] = lead(route)
        self.destinations: Final = tuple(found[path] for path in sorted(found))
        self._by_prefix: Final = found
        self._depth: Final = max(path.count("/") for path in found)
        self._lines: Final[dict[RequestLine, RoutedLine]] = {}

    def find(self, path: str) -> Destination | None:
        """Return the destination of a decoded, clean path, None if no route has it."""
        parts = path.split("/", self._depth + 1)[: self._depth + 1]
        while len(parts) > 1:
            found = self._by_prefix.get("/".join(parts))
            if found is not None:
                return found
            parts.pop()
        return self._by_prefix.get("/")

    def routed(self, line: RequestLine) -> RoutedLine | None:
        """Return a line as its destination sees it, None if no route has its path.

        Lines that the listener remembers are remembered here too.

        Raises:
            RequestFault: see `RoutedLine`.
        """
        known = self._lines.get(line)
        if known is not None:
            return known
        destination = self.find(line.path)
        if destination is None:
            return None
        routed = RoutedLine(line, destination)
        if line.minor and not line.host and len(line.target) <= MEMO_BYTES:
            if len(self._lines) >= MEMO_ENTRIES:
                self._lines.clear()
            self._lines[line] = routed
        return routed


def _check(route: GatewayRoute) -> None:
    """Refuse a route that cannot be meant.

    Raises:
        GatewayError: what is wrong with it, and what to write.
    """
    path = route.path
    for what, value in (("application", route.application), ("instance", route.instance)):
        if not value.strip() or value != value.strip() or not value.isascii() or forbidden_in_value(value):
            raise GatewayError(f"route {path!r}: the {what} {value!r} is no name")
    if not path.startswith("/"):
        raise GatewayError(f"route {path!r} is not absolute: write {'/' + path!r}")
    if len(path) > PREFIX_CHARACTERS:
        raise GatewayError(f"route {path[:40]!r}…: a path has at most {PREFIX_CHARACTERS} characters")
    clean = clean_path(path).rstrip("/") or "/"
    if path != clean:
        raise GatewayError(f"route {path!r} is not canonical: write {clean!r}")
    if not _plain(path):
        raise GatewayError(
            f"route {path!r} is not canonical: letters, digits and -._~!$&'()*+,;=:@ between slashes, nothing escaped"
        )


def _whose(route: GatewayRoute) -> str:
    return f"{route.application}/{route.instance}"
