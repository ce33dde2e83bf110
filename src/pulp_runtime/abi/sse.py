"""Records of `transport.sse`: one event."""

from __future__ import annotations

import msgspec


class SSEEmitRequest(msgspec.Struct, kw_only=True, frozen=True):
    """An event for whoever listens on a path.

    Attributes:
        path: the concrete path, as clients ask for it.
        id: what a client that lost its connection says it saw last; "" for none.
        event: its type, "" for `message`.
        data: text; lines end with LF, CRLF or CR.
    """

    path: str = ""
    id: str = ""
    event: str = ""
    data: str = ""
