"""The client's end of the control socket. Blocking; for the command and for scripts."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Final

import msgspec

from pulp_runtime.control.protocol import FrameBroken, Reply, Request, frame, length_of, socket_path
from pulp_runtime.errors import PulpError

CONNECT_SECONDS: Final = 5.0
EXCHANGE_SECONDS: Final = 30.0


class ControlFailed(PulpError):
    """There is no host at the socket, or it said no; the message says which."""


def ask(request: Request, path: str | None = None) -> Reply:
    """Send one request; return the reply.

    Args:
        request: what is wanted.
        path: of the socket; `$PULP_CTL_SOCK` or `./pulp.ctl` by default.

    Raises:
        ControlFailed: nobody listens, the exchange took over 30 s, or the host answered with an error.
    """
    return next(follow(request, path))


def follow(request: Request, path: str | None = None) -> Iterator[Reply]:
    """Send one request; yield replies for as long as the host sends them. Errors as `ask`."""
    path = socket_path() if path is None else path
    if not path:
        raise ControlFailed('the control socket is disabled (PULP_CTL_SOCK="")')
    answered = False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_SECONDS)
        try:
            connection.connect(path)
            connection.settimeout(EXCHANGE_SECONDS)
            connection.sendall(frame(request))
            yield _reply(connection)
            answered = True
            connection.settimeout(None)
            while request.follow:
                yield _reply(connection)
        except OSError as error:
            raise ControlFailed(f"no host at {path}: {error.strerror or error}; is one running here?") from None
        except _Ended:
            if not answered:
                raise ControlFailed(f"the host at {path} closed the connection without an answer") from None
        except (FrameBroken, msgspec.MsgspecError) as error:
            raise ControlFailed(f"the host at {path} answered nonsense: {error}") from None


class _Ended(Exception):
    """The host has closed the connection."""


def _reply(connection: socket.socket) -> Reply:
    reply = msgspec.msgpack.decode(_exactly(connection, length_of(_exactly(connection, 4))), type=Reply)
    if reply.error:
        raise ControlFailed(reply.error)
    return reply


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise _Ended
        data += more
    return data
