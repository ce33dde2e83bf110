"""Read, write and seek: `fd_read`, `fd_write`, `fd_pread`, `fd_pwrite`, `fd_seek`, `fd_tell`, and `sock_*`.

These are what a program calls most. One or two buffers, as C libraries give, are taken apart without a loop of their
own; a file with positions gets the guest's own memory to read into.
"""

from __future__ import annotations

import errno
from typing import Final

from pulp_runtime.ext.tree import File, Kind
from pulp_runtime.wasi import right
from pulp_runtime.wasi.descriptor import Descriptor
from pulp_runtime.wasi.errno import Refused, WasiErrno
from pulp_runtime.wasi.state import PAIR, WORD, State

MAX_BUFFERS: Final = 1024
"""Most buffers of one call; past it `INVAL`."""
MAX_TRANSFER_BYTES: Final = 16 << 20
"""Most bytes that one call moves; of more only these, and the program goes on with the rest."""
MAX_POSITION: Final = (1 << 63) - 1

_SET, _CURRENT, _END = range(3)


class Streams(State):
    """The functions that move bytes."""

    def fd_read(self, fd: int, iovs: int, count: int, nread: int) -> None:
        """Read where the file goes on."""
        found, file = self.file(fd, right.READ)
        answer = self.view(nread, 4)
        if not found.seekable:
            done = self._receive(found, file, self._buffers(iovs, count))
        else:
            done = self._read(found, file, iovs, count, found.position)
            found.position += done
        WORD.pack_into(answer, 0, done)

    def fd_write(self, fd: int, iovs: int, count: int, nwritten: int) -> None:
        """Write where the file goes on, or at its end."""
        found, file = self.file(fd, right.WRITE)
        answer = self.view(nwritten, 4)
        if not found.seekable:
            done = self._send(found, file, self._buffers(iovs, count))
        elif found.flags & right.APPEND:
            done = self._append(found, file, self._buffers(iovs, count))
            found.position = file.stat().size
        else:
            done = self._write(found, file, iovs, count, found.position)
            found.position += done
        WORD.pack_into(answer, 0, done)
        if found.flags & right.DURABLE:
            with self.machine.blocking():
                file.sync()

    def fd_pread(self, fd: int, iovs: int, count: int, offset: int, nread: int) -> None:
        """Read at a position, and leave the file's own as it is."""
        found, file = self.file(fd, right.READ)
        answer = self.view(nread, 4)
        self._positions(found, right.SEEK, offset)
        WORD.pack_into(answer, 0, self._read(found, file, iovs, count, offset))

    def fd_pwrite(self, fd: int, iovs: int, count: int, offset: int, nwritten: int) -> None:
        """Write at a position, also when the file appends; leave the file's own position as it is."""
        found, file = self.file(fd, right.WRITE)
        answer = self.view(nwritten, 4)
        self._positions(found, right.SEEK, offset)
        WORD.pack_into(answer, 0, self._write(found, file, iovs, count, offset))
        if found.flags & right.DURABLE:
            with self.machine.blocking():
                file.sync()

    def fd_seek(self, fd: int, offset: int, whence: int, new: int) -> None:
        """Set where the file goes on: from its start, from where it is, or from its end."""
        found, file = self.file(fd)
        if offset >= 1 << 63:
            offset -= 1 << 64
        telling = offset == 0 and whence == _CURRENT
        self._positions(found, right.TELL | right.SEEK if telling else right.SEEK)
        if whence == _CURRENT:
            offset += found.position
        elif whence == _END:
            offset += file.stat().size
        elif whence != _SET:
            raise Refused(WasiErrno.INVAL, "whence is 0, 1 or 2")
        if not 0 <= offset <= MAX_POSITION:
            raise Refused(WasiErrno.INVAL, "before the start of the file, or past what a position can be")
        self.put_long(new, offset)
        found.position = offset

    def fd_tell(self, fd: int, offset: int) -> None:
        """Tell where the file goes on."""
        found, _ = self.file(fd)
        self._positions(found, right.TELL)
        self.put_long(offset, found.position)

    # Sockets ----------------------------------------------------------------------------------------------------

    def sock_accept(self, fd: int, _flags: int, opened: int) -> None:
        """Refuse: nothing that is mounted accepts connections like this."""
        self._socket(fd)
        self.view(opened, 4)
        raise Refused(WasiErrno.NOTSUP)

    def sock_recv(self, fd: int, iovs: int, count: int, flags: int, nread: int, flags_out: int) -> None:
        """Read from a stream that calls itself a socket; peeking is not supported."""
        self._socket(fd)
        if flags:
            raise Refused(WasiErrno.NOTSUP)
        answer = self.view(flags_out, 2)
        self.fd_read(fd, iovs, count, nread)
        answer[:] = b"\0\0"

    def sock_send(self, fd: int, iovs: int, count: int, flags: int, nwritten: int) -> None:
        """Write to a stream that calls itself a socket."""
        self._socket(fd)
        if flags:
            raise Refused(WasiErrno.INVAL)
        self.fd_write(fd, iovs, count, nwritten)

    def sock_shutdown(self, fd: int, how: int) -> None:
        """Refuse: a stream is ended by closing it."""
        self._socket(fd)
        raise Refused(WasiErrno.NOTSUP if 0 < how < 4 else WasiErrno.INVAL)

    def _socket(self, fd: int) -> None:
        if self.descriptors.get(fd).kind is not Kind.SOCKET:
            raise Refused(WasiErrno.NOTSOCK)

    # Parts of it ------------------------------------------------------------------------------------------------

    def _positions(self, found: Descriptor, rights: int, offset: int = 0) -> None:
        """Refuse a stream, a descriptor that has none of these rights, or a position that cannot be."""
        if not found.seekable:
            raise Refused(WasiErrno.SPIPE)
        if not found.rights & rights:
            raise Refused(WasiErrno.NOTCAPABLE)
        if offset > MAX_POSITION:
            raise Refused(WasiErrno.INVAL, "past what a position can be")

    def _buffers(self, iovs: int, count: int) -> list[memoryview]:
        """Return the pieces of guest memory of a call, `MAX_TRANSFER_BYTES` in all at most."""
        if count > MAX_BUFFERS:
            raise Refused(WasiErrno.INVAL, f"more than {MAX_BUFFERS} buffers")
        view = self.view
        found = [view(address, length) for address, length in PAIR.iter_unpack(view(iovs, 8 * count))]
        room = MAX_TRANSFER_BYTES
        for at, buffer in enumerate(found):
            if len(buffer) > room:
                found[at] = buffer[:room]
                return found[: at + 1]
            room -= len(buffer)
        return found

    def _read(self, found: Descriptor, file: File, iovs: int, count: int, offset: int) -> int:
        if count == 1:
            address, length = PAIR.unpack_from(self.view(iovs, 8))
            into = self.view(address, length)
            if length > MAX_TRANSFER_BYTES:
                into = into[:MAX_TRANSFER_BYTES]
            return self._read_at(found, file, offset, into) if length else 0
        done = 0
        for into in self._buffers(iovs, count):
            if into:
                try:
                    got = self._read_at(found, file, offset + done, into)
                except OSError:
                    if done:
                        return done
                    raise
                done += got
                if got < len(into):
                    break
        return done

    def _read_at(self, found: Descriptor, file: File, offset: int, into: memoryview) -> int:
        try:
            return file.read_at(offset, into)
        except BlockingIOError:
            return self.patiently(found, file, lambda: file.read_at(offset, into), write=False)

    def _write(self, found: Descriptor, file: File, iovs: int, count: int, offset: int) -> int:
        if count == 1:
            address, length = PAIR.unpack_from(self.view(iovs, 8))
            data = self.view(address, length)
            if length > MAX_TRANSFER_BYTES:
                data = data[:MAX_TRANSFER_BYTES]
            _fits(offset, len(data))
            return self._write_at(found, file, offset, data) if length else 0
        done = 0
        for data in self._buffers(iovs, count):
            if data:
                try:
                    _fits(offset + done, len(data))
                    took = self._write_at(found, file, offset + done, data)
                except OSError:
                    if done:
                        return done
                    raise
                done += took
                if took < len(data):
                    break
        return done

    def _write_at(self, found: Descriptor, file: File, offset: int, data: memoryview) -> int:
        try:
            return file.write_at(offset, data)
        except BlockingIOError:
            return self.patiently(found, file, lambda: file.write_at(offset, data), write=True)

    def _append(self, found: Descriptor, file: File, buffers: list[memoryview]) -> int:
        """Append in one step, so that what others append is not in between."""
        full = [buffer for buffer in buffers if buffer]
        if not full:
            return 0
        data = full[0] if len(full) == 1 else memoryview(b"".join(full))
        try:
            return file.append(data)
        except BlockingIOError:
            return self.patiently(found, file, lambda: file.append(data), write=True)

    def _receive(self, found: Descriptor, file: File, buffers: list[memoryview]) -> int:
        size = sum(map(len, buffers))
        if not size:
            return 0
        try:
            data = file.read(size)
        except BlockingIOError:
            data = self.patiently(found, file, lambda: file.read(size), write=False)
        if len(data) <= len(buffers[0]):
            buffers[0][: len(data)] = data
            return len(data)
        at = 0
        for into in buffers:
            piece = data[at : at + len(into)]
            into[: len(piece)] = piece
            at += len(piece)
        return at

    def _send(self, found: Descriptor, file: File, buffers: list[memoryview]) -> int:
        data = bytes(buffers[0]) if len(buffers) == 1 else b"".join(buffers)
        if not data:
            return 0
        try:
            return file.write(data)
        except BlockingIOError:
            return self.patiently(found, file, lambda: file.write(data), write=True)


def _fits(offset: int, length: int) -> None:
    if offset + length > MAX_POSITION:
        raise OSError(errno.EFBIG, "past what a position can be")
