"""A request as one text: as it came, and as JSON."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from pulp_runtime.capabilities.cloud.exchange import Asked


def raw_head(asked: Asked) -> bytes:
    """Return request line, header lines and the empty line behind them.

    The body follows as it is, decoded: how it was framed on the wire is not said (no Transfer-Encoding).
    """
    line = asked.request.line
    lines = [f"{line.method} {line.target} HTTP/1.{line.minor}", f"Host: {asked.host}"]
    block = asked.request.block
    for name, value in block.fields.items():
        lines.append(f"{name}: {value}")
        lines += [f"{name}: {more}" for more in block.repeated.get(name, ())]
    return "\r\n".join((*lines, "", "")).encode()


def as_json(asked: Asked, body: bytes) -> bytes:
    """Return the request as one JSON object; `body` as text if it is UTF-8, else as `body_base64`."""
    line = asked.request.line
    fields: dict[str, Any] = {
        "id": asked.number,
        "method": line.method,
        "path": line.path,
        "query": line.query,
        "params": asked.match.params,
        "headers": {name: value.replace("\n", ", ") for name, value in asked.headers.items()},
        "remote_addr": asked.request.connection.remote_addr,
    }
    try:
        fields["body"] = body.decode()
    except UnicodeDecodeError:
        fields["body_base64"] = base64.b64encode(body).decode()
    return msgspec.json.encode(fields)
