"""`/response/json`: a whole answer as one JSON object."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

import msgspec

from pulp_runtime.capabilities.cloud.response_text import Malformed, Pairs, check_field, check_status


class _Response(msgspec.Struct, forbid_unknown_fields=True):
    status: int = 200
    headers: dict[str, str | list[str]] = {}
    body: str | None = None
    body_base64: str | None = None


class Response(NamedTuple):
    """What it says."""

    status: int
    pairs: Pairs
    body: bytes


def parse_response_json(text: bytes) -> Response:
    """Read an answer: `status` (200 by default), `headers` (a value or a list of them), `body` or `body_base64`."""
    try:
        said = msgspec.json.decode(text, type=_Response)
    except msgspec.DecodeError as error:
        raise Malformed(f"not a response in JSON: {error}", text) from None
    if said.body is not None and said.body_base64 is not None:
        raise Malformed("body and body_base64 are both there", text)
    try:
        body = (
            (said.body or "").encode()
            if said.body_base64 is None
            else base64.b64decode(said.body_base64, validate=True)
        )
    except binascii.Error as error:
        raise Malformed(f"body_base64: {error}", said.body_base64 or "") from None
    except UnicodeEncodeError:
        raise Malformed("body: a lone surrogate", text) from None
    pairs = [
        check_field(name, value)
        for name, values in said.headers.items()
        for value in ((values,) if isinstance(values, str) else values)
    ]
    return Response(check_status(said.status, str(said.status)), pairs, body)
