"""Which cell owns which path: a pure table that never changes once made.

A pattern is compiled into segments, each with a rank: the higher, the more
specific. `add` and `without` answer with a new table; whoever holds the old
one keeps a consistent view, and a new table starts with an empty memo, so
nothing is ever invalidated.

    literal    2   /echo      exactly this segment
    parameter  1   /:msg      one segment, also an empty one
    catch-all  0   /*rest     all that is left, also nothing
    empty      1   / and /a/  a literal that counts as no literal (see below)

Of the patterns that match a path the most specific wins, compared segment by
segment from the left, where a pattern that has ended ranks above everything.
Between equals the earlier registration wins.

Two patterns overlap when some path could match both. One owner may overlap
itself; nobody may overlap somebody else. Empty literals are not treated as
literals here: "/" overlaps every one-segment pattern and `/a/` overlaps `/a/b`.
Existing hosts do so and their cells count on being refused alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from pulp_runtime._net.fields import is_token
from pulp_runtime.abi.codec import encode_str_map
from pulp_runtime.errors import PulpError

#: Longest pattern, in characters. Past it `RouteInvalid`.
PATTERN_CHARACTERS: Final = 2_048
#: Most segments in a pattern. Past it `RouteInvalid`.
PATTERN_SEGMENTS: Final = 64
#: Most routes of one owner in one table. Past it `RouteInvalid`.
ROUTES_PER_OWNER: Final = 1_000
#: Longest method. Past it `RouteInvalid`.
METHOD_CHARACTERS: Final = 32
#: Answers a table remembers. Past it all are forgotten.
MEMO_ENTRIES: Final = 1_024

_CATCH_ALL: Final = 0
_PARAMETER: Final = 1
_EMPTY: Final = 1
_LITERAL: Final = 2
_END: Final = 3


class RouteInvalid(PulpError):
    """A method or pattern that no table accepts; the message names it and says why."""


class RouteConflict(PulpError):
    """A pattern that overlaps one of another owner.

    Attributes:
        method: the method of both.
        pattern: what was asked for.
        owner: who asked.
        holder: who has it.
        held: the holder's pattern.
    """

    def __init__(self, method: str, pattern: str, owner: str, held: str, holder: str) -> None:
        self.method = method
        self.pattern = pattern
        self.owner = owner
        self.held = held
        self.holder = holder
        super().__init__(f"{method} {pattern} of {owner} overlaps {method} {held} of {holder}")


class Match(NamedTuple):
    """What a path leads to; shared between requests, so nobody changes it.

    Attributes:
        owner: who registered the route.
        params: parameter names to values.
        packed_params: `params` as a MessagePack map.
        pattern: the route's pattern as registered.
    """

    owner: str
    params: dict[str, str]
    packed_params: bytes
    pattern: str


class Segment(NamedTuple):
    """One position of a pattern: what it accepts, its rank, and a literal's text or a parameter's name."""

    kind: str
    rank: int
    text: str


class Route:
    """One compiled pattern of one owner."""

    __slots__ = ("method", "owner", "pattern", "ranks", "segments", "shape")

    def __init__(self, method: str, pattern: str, owner: str) -> None:
        self.method = method
        self.pattern = pattern
        self.owner = owner
        self.segments = compile_pattern(pattern)
        self.ranks = (*(segment.rank for segment in self.segments), _END)
        self.shape = tuple(
            (segment.kind, segment.text if segment.kind == "literal" else "") for segment in self.segments
        )

    @property
    def plain(self) -> bool:
        """Whether every segment is a non-empty literal, so that nothing can be more specific."""
        return all(segment.rank == _LITERAL for segment in self.segments)

    @property
    def catches_all(self) -> bool:
        """Whether the last segment takes whatever is left."""
        return self.segments[-1].kind == "catch-all"

    def params(self, parts: list[str]) -> dict[str, str] | None:
        """Return the parameters if the segments of a path match, else None."""
        found: dict[str, str] = {}
        segments = self.segments
        if len(parts) != len(segments) and not self.catches_all:
            return None
        for position, (kind, _, text) in enumerate(segments):
            if kind == "catch-all":
                found[text] = "/".join(parts[position:])
                return found
            if position >= len(parts):
                return None
            if kind == "parameter":
                found[text] = parts[position]
            elif parts[position] != text:
                return None
        return found


def compile_pattern(pattern: str) -> tuple[Segment, ...]:
    """Split a pattern into segments; what follows a catch-all is ignored.

    Raises:
        RouteInvalid: the pattern does not start with "/", or is too long.
    """
    if not pattern.startswith("/"):
        raise RouteInvalid(f"pattern {pattern[:80]!r} must start with '/'")
    if len(pattern) > PATTERN_CHARACTERS:
        raise RouteInvalid(f"pattern {pattern[:80]!r}... is longer than {PATTERN_CHARACTERS} characters")
    parts = pattern[1:].split("/")
    if len(parts) > PATTERN_SEGMENTS:
        raise RouteInvalid(f"pattern {pattern[:80]!r}... has more than {PATTERN_SEGMENTS} segments")
    segments: list[Segment] = []
    for part in parts:
        if part.startswith("*"):
            segments.append(Segment("catch-all", _CATCH_ALL, part[1:]))
            break
        if part.startswith(":") and len(part) > 1:
            segments.append(Segment("parameter", _PARAMETER, part[1:]))
        else:
            text = "" if part == ":" else part  # a parameter without a name is an empty literal
            segments.append(Segment("literal", _LITERAL if text else _EMPTY, text))
    return tuple(segments)


def overlap(one: tuple[Segment, ...], other: tuple[Segment, ...]) -> bool:
    """Return whether some path could match both, with empty literals counted as no literals."""
    for mine, theirs in zip(one, other, strict=False):
        if mine.kind == "catch-all" or theirs.kind == "catch-all":
            return True
        if mine.rank == theirs.rank == _LITERAL and mine.text != theirs.text:
            return False
    shorter, longer = sorted((one, other), key=len)
    return len(shorter) == len(longer) or longer[len(shorter)].kind == "catch-all"


class RouteTable:
    """An immutable set of routes with their lookup."""

    __slots__ = ("_candidates", "_memo", "_plain", "_routes")

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        """Make a table of routes that are already known not to conflict."""
        self._routes: Final = tuple(routes)
        #: (method, path) to route: patterns of non-empty literals only, which nothing can outrank.
        self._plain: dict[tuple[str, str], Route] | None = None
        #: (method, segment count) to the other routes that could match, most specific first.
        self._candidates: Final[dict[tuple[str, int], list[Route]]] = {}
        self._memo: Final[dict[tuple[str, str], Match]] = {}

    @property
    def routes(self) -> tuple[Route, ...]:
        """Every route, oldest first."""
        return self._routes

    def add(self, method: str, pattern: str, owner: str, *, strict: bool = False) -> RouteTable:
        """Return a table that also has this route, or this table if it adds nothing.

        The same owner registering the same shape again adds nothing, and the
        first parameter names stay. With `strict` it may not overlap its own routes either.

        Raises:
            RouteInvalid: the method or the pattern cannot be used, or the
                owner has too many routes.
            RouteConflict: the route overlaps one of another owner, or with `strict` one of this owner.
        """
        method = method.strip().upper()
        if len(method) > METHOD_CHARACTERS or not is_token(method):
            raise RouteInvalid(f"method {method[:METHOD_CHARACTERS]!r} of {pattern[:80]!r} is not a method")
        new = Route(method, pattern, owner)
        owned = 0
        for route in self._routes:
            owned += route.owner == owner
            if route.method != method:
                continue
            if route.owner == owner:
                if route.shape == new.shape:
                    return self
                if not strict:
                    continue
            if overlap(route.segments, new.segments):
                raise RouteConflict(method, pattern, owner, route.pattern, route.owner)
        if owned >= ROUTES_PER_OWNER:
            raise RouteInvalid(f"{owner} has {ROUTES_PER_OWNER} routes already; {method} {pattern[:80]} is one more")
        return RouteTable((*self._routes, new))

    def route(self, method: str, pattern: str, owner: str) -> Route:
        """Return the route that `add` with these arguments left in this table.

        Raises:
            LookupError: there is none.
        """
        wanted = Route(method.strip().upper(), pattern, owner)
        for route in self._routes:
            if (route.method, route.owner, route.shape) == (wanted.method, owner, wanted.shape):
                return route
        raise LookupError(pattern)

    def without(self, owner: str) -> RouteTable:
        """Return a table without this owner's routes."""
        return RouteTable(route for route in self._routes if route.owner != owner)

    def match(self, method: str, path: str) -> Match | None:
        """Return the most specific route for a decoded path, or None."""
        key = (method, path)
        match = self._memo.get(key)
        if match is None and path[:1] == "/":  # "*" is a target, but no path
            match = self._select(key)
            if match is not None:
                if len(self._memo) >= MEMO_ENTRIES:
                    self._memo.clear()
                self._memo[key] = match
        return match

    def _select(self, key: tuple[str, str]) -> Match | None:
        """Find the route without the memo."""
        method, path = key
        if self._plain is None:
            self._plain = {
                (route.method, "/" + "/".join(segment.text for segment in route.segments)): route
                for route in reversed(self._routes)  # the earliest is written last and stays
                if route.plain
            }
        plain = self._plain.get(key)
        if plain is not None:
            return Match(plain.owner, {}, encode_str_map({}), plain.pattern)
        parts = path[1:].split("/")
        for route in self._ranked(method, len(parts)):
            params = route.params(parts)
            if params is not None:
                return Match(route.owner, params, encode_str_map(params), route.pattern)
        return None

    def _ranked(self, method: str, count: int) -> list[Route]:
        """Return the routes that may match a path of `count` segments, most specific first."""
        # Past the longest pattern only catch-alls match, and they match alike.
        key = (method, min(count, PATTERN_SEGMENTS + 1))
        ranked = self._candidates.get(key)
        if ranked is None:
            ranked = [
                route
                for route in self._routes
                if route.method == method
                and not route.plain
                and (len(route.segments) == count or (route.catches_all and len(route.segments) - 1 <= count))
            ]
            ranked.sort(key=lambda route: route.ranks, reverse=True)  # stable: ties stay in order
            if ranked:  # only methods that have routes are remembered: clients choose the method
                self._candidates[key] = ranked
        return ranked
