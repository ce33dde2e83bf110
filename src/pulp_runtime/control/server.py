"""The control socket of one host.

Who may speak to it: the user the host runs as, and root. The file is for that user alone from the moment it exists;
where the system tells who is at the other end (Linux), that is checked too. A socket at which another host still
listens is left to it, and a file that is no socket is left alone.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from typing import Final

import msgspec

from pulp_runtime.control.protocol import REQUEST_SECONDS, FrameBroken, Reply, Request, frame, length_of
from pulp_runtime.control.tail import Tail
from pulp_runtime.control.verbs import Verbs
from pulp_runtime.errors import PulpError
from pulp_runtime.log import Log

CLIENTS: Final = 32
"""Connections at once. More are closed at once."""


class SocketTaken(PulpError):
    """Another host listens there, or something else is there."""


class ControlServer:
    """Listens from `start` to `stop`, on the loop."""

    def __init__(self, path: str, verbs: Verbs, tail: Tail) -> None:
        self._path: Final = path
        self._verbs: Final = verbs
        self._tail: Final = tail
        self._log: Final = Log("pulp")
        self._server: asyncio.Server | None = None
        self._clients: Final[set[asyncio.Task[None]]] = set()

    async def start(self) -> None:
        """Listen; a socket that cannot be had is told, and the host runs without one."""
        if not self._path:
            self._log.info('control socket disabled (PULP_CTL_SOCK="")')
            return
        try:
            bound = _bind(self._path)
            self._server = await asyncio.start_unix_server(self._client, sock=bound)
        except (OSError, SocketTaken) as error:
            reason = str(error)
            self._log.warning("control socket bind failed; continuing without it", addr=self._path, reason=reason)
            return
        self._log.info("control socket listening", addr=self._path)

    async def stop(self) -> None:
        """Close the socket and every connection, and remove the file."""
        if self._server is None:
            return
        self._server.close()
        for task in tuple(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        try:
            os.unlink(self._path)
        except OSError:  # somebody else has removed it
            pass

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine of the server runs in one
        self._clients.add(task)
        try:
            if len(self._clients) <= CLIENTS and self._is_permitted(writer):
                await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass  # whoever asked has gone, or never said anything
        except FrameBroken as error:
            self._log.warning("control read failed", reason=str(error))
        finally:
            self._clients.discard(task)
            writer.close()

    def _is_permitted(self, writer: asyncio.StreamWriter) -> bool:
        peer = writer.get_extra_info("socket")
        if not hasattr(socket, "SO_PEERCRED"):
            return True  # the file's mode has decided
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, user, _group = struct.unpack("3i", credentials)
        if user in (0, os.geteuid()):
            return True
        self._log.warning("control connection refused", user=user, pid=pid)
        return False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(REQUEST_SECONDS):
            body = await reader.readexactly(length_of(await reader.readexactly(4)))
        try:
            request = msgspec.msgpack.decode(body, type=Request)
        except msgspec.MsgspecError as error:
            writer.write(frame(Reply(error=f"invalid msgpack: {error}")))
            await writer.drain()
            return
        writer.write(_fitting(await self._verbs.run(request)))
        await writer.drain()
        if request.op == "logs" and request.follow:
            await self._follow(request, reader, writer)

    async def _follow(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send lines as they come, until the client leaves."""
        follower = self._tail.follow(request.cell)
        gone = asyncio.ensure_future(reader.read(1))
        try:
            while not gone.done():
                more = asyncio.ensure_future(follower.lines())
                await asyncio.wait({more, gone}, return_when=asyncio.FIRST_COMPLETED)
                if more.done():
                    writer.write(_fitting(Reply(ok=True, lines=more.result())))
                    await writer.drain()
                else:
                    more.cancel()
        finally:
            follower.close()
            gone.cancel()


def _fitting(reply: Reply) -> bytes:
    """Return the frame of a reply; one that is too long is an error instead."""
    try:
        return frame(reply)
    except FrameBroken as error:
        if len(reply.lines) > 1:
            return _fitting(msgspec.structs.replace(reply, lines=reply.lines[len(reply.lines) // 2 :]))
        return frame(Reply(error=str(error)))


def _bind(path: str) -> socket.socket:
    """Return a listening socket at `path`, for this user alone from its first moment.

    Raises:
        SocketTaken: a host listens there, or there is something that is no socket.
        OSError: the system refuses.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISSOCK(mode):
            raise SocketTaken("it is a file, not a socket; remove it, or set PULP_CTL_SOCK")
        if _is_live(path):
            raise SocketTaken("another host listens there; set PULP_CTL_SOCK for this one")
        os.unlink(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        bound.bind(path)
    except OSError:
        bound.close()
        raise
    finally:
        os.umask(before)
    bound.setblocking(False)
    return bound


def _is_live(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # it does not answer, but it is there
    return True
