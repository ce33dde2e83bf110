"""Header blocks that programs write: of a raw response, and of a CGI response (RFC 9112 §4, RFC 3875 §6.3).

Lines end with LF or CRLF. What does not follow the grammar is `Malformed`: nothing is repaired.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from pulp_runtime._net.fields import TCHAR, forbidden_in_value, is_token

#: Longest header block. Past it `Malformed`.
HEAD_BYTES: Final = 64 * 1024
CGI_FIELDS: Final = frozenset({"content-type", "location", "status"})
"""One of these makes the beginning of standard output a header block."""

end_of_head: Final = re.compile(rb"\r?\n\r?\n").search
_status_line: Final = re.compile(rb"HTTP/[0-9](?:\.[0-9])? ([0-9]{3})(?: [^\r\0]*)?").fullmatch
_status: Final = re.compile(r"\s*([0-9]{1,9})(?: [^\r\n\0]*)?\s*").fullmatch
_field_start: Final = re.compile(rb"%b+(?::|\Z)" % TCHAR.encode()).match

Pairs = list[tuple[str, str]]


class Malformed(ValueError):
    """A response that cannot be sent.

    Attributes:
        reason: why.
        part: the bytes that are wrong.
    """

    def __init__(self, reason: str, part: bytes | str) -> None:
        super().__init__(reason)
        self.reason: Final = reason
        self.part: Final = part if isinstance(part, bytes) else part.encode(errors="surrogateescape")


class Head(NamedTuple):
    """What a header block says."""

    status: int
    pairs: Pairs


def parse_response_head(block: bytes) -> Head:
    """Read a status line and header lines, without the empty line behind them."""
    first, *lines = _lines(block)
    found = _status_line(first)
    if found is None:
        raise Malformed("not a status line", first)
    return Head(check_status(int(found[1]), first), parse_fields(lines))


def parse_cgi_head(block: bytes) -> Head:
    """Read the header lines of a CGI response, without the empty line behind them.

    `Status` sets the status. `Location` alone makes it 302: the client is sent to a local path, too, which is not
    served in its place.
    """
    status, pairs = 0, []
    for name, value in parse_fields(_lines(block)):
        if name.lower() == "status":
            status = parse_status(value)
        else:
            pairs.append((name, value))
    if not status:
        status = 302 if any(name.lower() == "location" for name, _ in pairs) else 200
    return Head(status, pairs)


def parse_status(text: str) -> int:
    """Return the number at the beginning of `201` or `201 Created`."""
    found = _status(text)
    if found is None:
        raise Malformed("not a status", text)
    return check_status(int(found[1]), text)


def check_status(status: int, part: bytes | str) -> int:
    """Return a status that can be sent; 1xx would announce another answer."""
    if not 200 <= status <= 599:
        reason = "an informational status is no answer" if 100 <= status < 200 else "status outside 100..599"
        raise Malformed(reason, part)
    return status


def parse_fields(lines: Iterable[bytes]) -> Pairs:
    """Read header lines."""
    return [check_field(*_field(line)) for line in lines]


def check_field(name: str, value: str) -> tuple[str, str]:
    """Return a header field that breaks nothing."""
    if not is_token(name):
        raise Malformed("not a header name", name)
    if forbidden_in_value(value):
        raise Malformed(f"a control character in the value of {name}", value)
    return name, value


def text_of(value: bytes) -> str:
    """Return a header value as text: UTF-8, or Latin-1 if it is not."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _lines(block: bytes) -> list[bytes]:
    return [line.removesuffix(b"\r") for line in block.split(b"\n")]


def _field(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    if not colon:
        raise Malformed("not a header line", line)
    return text_of(name), text_of(value).strip(" \t")


class Verdict(NamedTuple):
    """What the beginning of standard output is.

    Attributes:
        decided: False: more of it has to be seen.
        head: length of its header block, 0 for none.
        body: where its body begins.
    """

    decided: bool
    head: int = 0
    body: int = 0


UNDECIDED: Final = Verdict(decided=False)
PLAIN: Final = Verdict(decided=True)


def judge(output: bytes) -> Verdict:
    """Say whether output begins with a CGI header block: lines `Name: value`, one of `CGI_FIELDS`, an empty line."""
    end = end_of_head(output)
    lines = _lines(output[: end.start()] if end else output[:HEAD_BYTES])
    named = False
    for at, line in enumerate(lines):
        if not line and not end and at == len(lines) - 1:
            break  # the next line has not begun
        if not _field_start(line) or (b":" not in line and (end or at < len(lines) - 1)):
            return PLAIN
        named = named or line.partition(b":")[0].decode().lower() in CGI_FIELDS
    if end is None:
        return UNDECIDED if len(output) < HEAD_BYTES else PLAIN
    return Verdict(True, end.start(), end.end()) if named else PLAIN
