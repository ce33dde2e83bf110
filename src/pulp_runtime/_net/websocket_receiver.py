"""Who a WebSocket connection belongs to, and what its clients are granted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from pulp_runtime._net.websocket_output import Outlet

if TYPE_CHECKING:
    from pulp_runtime._net.websocket import WebSocketConnection

NO_CLOSE_FRAME: Final = 65_535
"""What a receiver is told instead of a code when the client's close frame is not what ended the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketLimits:
    """What the connections of one receiver may do.

    Attributes:
        message_bytes: longest message of a client. Past it 1009.
        ping_seconds: silence after which a client is pinged; as long again without a byte, and it is cut off. 0: never.
        idle_seconds: how long there may be no message either way. Past it 1001. 0: for ever.
        close_seconds: how long the client may take to answer a close frame. Past it it is cut off.
    """

    message_bytes: int = 32_768
    ping_seconds: float = 0.0
    idle_seconds: float = 0.0
    close_seconds: float = 5.0


class Receiver(Outlet, Protocol):
    """Who a connection belongs to. Everything is called on the loop.

    Attributes:
        limits: what its connections may do.
        busy: whether messages are on their way to it; the answer to a single one need not wait for the loop.
    """

    limits: WebSocketLimits

    @property
    def busy(self) -> bool:
        """See above."""

    def on_message(self, connection: WebSocketConnection, opcode: int, payload: bytes) -> bool:
        """Take a message, in any case. False: no more before `resume` is called."""

    def on_close(self, connection: WebSocketConnection, code: int, reason: str) -> None:
        """Note the end of a connection; called exactly once, after its last message.

        Args:
            connection: which.
            code: of the client's close frame, `NO_CLOSE_FRAME` when that is not what ended it.
            reason: the client's, or ours in words.
        """
