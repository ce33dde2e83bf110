"""What the fields of a request make of a file's answer: validators, ranges, codings (RFC 9110 §12.5.3, §13, §14).

A field that cannot be understood is as if it were not there, as the RFC asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

_entity_tags: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"').findall
_one_range: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE).fullmatch
_DATE_CHARACTERS: Final = 40  # the longest form has 33
_weight: Final = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)").fullmatch


class Version(NamedTuple):
    """What tells one state of a file from another.

    Attributes:
        etag: strong, with its quotes.
        modified: seconds since 1970.
    """

    etag: str
    modified: int


class Part(NamedTuple):
    """Some of a file: the first byte, and the one behind the last."""

    start: int
    end: int


def condition(fields: Mapping[str, str], version: Version) -> int:
    """Return 304 or 412 when that is the answer, 200 otherwise (RFC 9110 §13.2.2)."""
    wanted, known = fields.get("If-Match"), fields.get("If-None-Match")
    if wanted is not None:
        if wanted.strip() != "*" and version.etag not in _entity_tags(wanted):
            return 412
    elif (since := _date(fields.get("If-Unmodified-Since"))) is not None and version.modified > since:
        return 412
    if known is not None:  # compared weakly: W/"x" is "x"
        tags = [tag.removeprefix("W/") for tag in _entity_tags(known)]
        return 304 if known.strip() == "*" or version.etag in tags else 200
    since = _date(fields.get("If-Modified-Since"))
    return 304 if since is not None and version.modified <= since else 200


def part(fields: Mapping[str, str], version: Version, size: int) -> Part | None:
    """Return the one range that a request is for; None for the whole file, also when it asks for several.

    Raises:
        ValueError: the range begins behind the end: 416.
    """
    match = _one_range(fields.get("Range", "").strip())
    if match is None or match[0].endswith("=-") or not _same(fields.get("If-Range"), version):
        return None
    first, last = match.groups()
    if not first:  # the last so many bytes
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < start:
            return None
    if start >= size:
        raise ValueError("the range begins behind the end")
    return Part(start, end)


def codings(fields: Mapping[str, str], there: Mapping[str, object]) -> str:
    """Return which coding of those that are there suits a client best; "" for the file as it is."""
    accepted = fields.get("Accept-Encoding", "")
    if not accepted:
        return ""
    weights: dict[str, float] = {}
    for offer in accepted.lower().split(","):
        name, _, parameters = offer.partition(";")
        key, _, value = parameters.strip().partition("=")
        weights[name.strip()] = float(value) if key.strip() == "q" and _weight(value.strip()) else 1.0
    anything = weights.get("*", 0.0)
    best = [(weights.get(name, anything), name == "br", name) for name in there if name]
    weight, _, name = max(best, default=(0.0, False, ""))
    return name if weight > 0 else ""


def wants_a_page(fields: Mapping[str, str]) -> bool:
    """Return whether a request comes from somebody who navigates: it names `text/html` among what it takes."""
    offers = [offer.partition(";")[0].strip() for offer in fields.get("Accept", "").lower().split(",")]
    return "text/html" in offers


def _same(validator: str | None, version: Version) -> bool:
    """Return whether an If-Range still holds; a date only if it is the very date we gave."""
    if validator is None:
        return True
    if '"' in validator:
        return validator.strip() == version.etag  # compared strongly: W/"x" is nobody's
    return _date(validator) == version.modified


def _date(text: str | None) -> int | None:
    """Read an HTTP date; None for what is none."""
    if not text or len(text) > _DATE_CHARACTERS:
        return None
    from email.utils import parsedate_to_datetime  # long to import, and seldom needed

    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError, TypeError):
        return None
