"""`wasi_snapshot_preview1` over a tree of mounts (spec/wasi-cloud §9).

    guest ──▶ fd_read(fd, …) ──▶ Descriptors ──▶ File.read_at ──▶ the guest's memory
          ──▶ path_open(fd, "beta/kv/local/a", …) ──▶ place ──▶ Node.open ──▶ Descriptors
          ──▶ poll_oneoff ──▶ Bell, the only place where a run stands still

All functions of preview 1 are here but `proc_exit`, which unwinds the guest and is the kernel's. What a node raises
becomes an error number; nothing that goes wrong here leaves as an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pulp_runtime.errors import Errno, HostError
from pulp_runtime.ext.nodes import Folder
from pulp_runtime.ext.tree import File, Node
from pulp_runtime.log import Log
from pulp_runtime.wasi import right
from pulp_runtime.wasi.attributes import Attributes
from pulp_runtime.wasi.descriptor import Descriptor
from pulp_runtime.wasi.errno import WasiErrno, wasi_errno
from pulp_runtime.wasi.machine import Machine
from pulp_runtime.wasi.paths import Paths
from pulp_runtime.wasi.polling import Polling
from pulp_runtime.wasi.streams import Streams

MODULE: Final = "wasi_snapshot_preview1"

KINDS: Final[Mapping[str, str]] = {
    "args_get": "ii",
    "args_sizes_get": "ii",
    "clock_res_get": "ii",
    "clock_time_get": "iIi",
    "environ_get": "ii",
    "environ_sizes_get": "ii",
    "fd_advise": "iIIi",
    "fd_allocate": "iII",
    "fd_close": "i",
    "fd_datasync": "i",
    "fd_fdstat_get": "ii",
    "fd_fdstat_set_flags": "ii",
    "fd_fdstat_set_rights": "iII",
    "fd_filestat_get": "ii",
    "fd_filestat_set_size": "iI",
    "fd_filestat_set_times": "iIIi",
    "fd_pread": "iiiIi",
    "fd_prestat_dir_name": "iii",
    "fd_prestat_get": "ii",
    "fd_pwrite": "iiiIi",
    "fd_read": "iiii",
    "fd_readdir": "iiiIi",
    "fd_renumber": "ii",
    "fd_seek": "iIii",
    "fd_sync": "i",
    "fd_tell": "ii",
    "fd_write": "iiii",
    "path_create_directory": "iii",
    "path_filestat_get": "iiiii",
    "path_filestat_set_times": "iiiiIIi",
    "path_link": "iiiiiii",
    "path_open": "iiiiiIIii",
    "path_readlink": "iiiiii",
    "path_remove_directory": "iii",
    "path_rename": "iiiiii",
    "path_symlink": "iiiii",
    "path_unlink_file": "iii",
    "poll_oneoff": "iiii",
    "proc_raise": "i",
    "random_get": "ii",
    "sched_yield": "",
    "sock_accept": "iii",
    "sock_recv": "iiiiii",
    "sock_send": "iiiii",
    "sock_shutdown": "ii",
}
"""Every function and its parameters, a letter for each: `i` is an i32, `I` an i64, both unsigned here."""

_log: Final = Log("pulp")


class Preview1(Streams, Attributes, Paths, Polling):
    """Preview 1 for one instance slot: run after run, on one thread at a time.

    Attributes:
        functions: by import name: the parameters (see `KINDS`), and what to call with them, which answers an error
            number of WASI and never raises an `Exception`.
    """

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._told: set[object] = set()
        self.functions: Final[Mapping[str, tuple[str, Callable[..., int]]]] = {
            name: (kinds, self._guarded(name)) for name, kinds in KINDS.items()
        }

    def begin(
        self,
        root: Folder,
        *,
        stdin: File,
        stdout: File,
        stderr: File,
        args: Sequence[str],
        environ: Mapping[str, str],
        preopens: Sequence[str] = ("/",),
    ) -> None:
        """Begin a run. Descriptors 0 to 2 are the standard streams, from 3 on come the preopened folders.

        Args:
            root: the tree.
            stdin: what is read as descriptor 0; closed at the end, as the other two.
            stdout: where descriptor 1 writes.
            stderr: where descriptor 2 writes.
            args: `argv`, the program's name first.
            environ: the environment, by name.
            preopens: names the program finds folders under. A name that is a child of `root` as it stands (`data`,
                or even `/`) is that child; `/` is else the whole tree, any other a path in it.

        Raises:
            ValueError: a preopen that is not in the tree, or text that has no bytes; then nothing was taken over.
        """
        self.end(clean=False)
        self.set_process(args, environ)
        folders = [(name.encode(errors="surrogateescape"), _preopened(root, name)) for name in preopens]
        add = self.descriptors.add
        reading = right.STREAM & ~right.WRITE
        writing = right.STREAM & ~right.READ
        add(Descriptor(stdin, _of_stream(stdin, reading)))
        add(Descriptor(stdout, _of_stream(stdout, writing)))
        add(Descriptor(stderr, _of_stream(stderr, writing)))
        for name, node in folders:
            found = Descriptor(node, right.FOLDER, right.FOLDER | right.FILE)
            found.preopen = name
            add(found)

    def end(self, *, clean: bool) -> None:
        """End a run: close every descriptor, or abandon what they hold if the program was ended.

        What goes wrong then can no longer be answered; it is logged.
        """
        for descriptor in self.descriptors.drain():
            try:
                descriptor.close(clean=clean)
            except OSError as error:
                _log.warning("a file was not closed cleanly when its program ended", err=str(error))
            except Exception as error:  # noqa: BLE001  # a node's own mistake must not keep the others open
                _log.error("a file of a mount failed to close", exc_info=error)
        self.bell.close()
        self._told.clear()

    def interrupt(self) -> None:
        """Say, from any thread, that the host wants the program to end, or that its deadline is another.

        Whoever waits for a file looks at it again; who waits for a time waits no longer.
        """
        self.bell.interrupt()

    def _guarded(self, name: str) -> Callable[..., int]:
        """Return a function of preview 1 that answers a number instead of raising."""
        body = getattr(self, name)

        def call(*words: int) -> int:
            try:
                body(*words)
            except OSError as error:
                number = wasi_errno(error)
                if number is WasiErrno.NFILE:
                    self._scarce(name, error)
                return self._unknown(name, error) if number is None else number
            except HostError as error:
                return WasiErrno.FAULT if error.code == Errno.FAULT else self._unknown(name, error)
            except Exception as error:  # noqa: BLE001  # a mistake of a node is the program's I/O error
                return self._failed(name, error)
            return 0

        return call

    def _unknown(self, name: str, error: Exception) -> int:
        """Answer an error that preview 1 has no number for; tell the operator once a run."""
        key = getattr(error, "errno", None) or type(error)
        if key not in self._told:
            self._told.add(key)
            _log.warning("an error without a number in WASI; the program gets EIO", function=name, err=str(error))
        return WasiErrno.IO

    def _scarce(self, name: str, error: OSError) -> None:
        """Tell the operator once a run that the host has no descriptors left for programs."""
        if WasiErrno.NFILE not in self._told:
            self._told.add(WasiErrno.NFILE)
            _log.warning("no descriptors left for programs; the program gets ENFILE", function=name, err=str(error))

    def _failed(self, name: str, error: Exception) -> int:
        """Answer a mistake of a mount; tell the operator once a run."""
        if (name, type(error)) not in self._told:
            self._told.add((name, type(error)))
            _log.error("a mount failed; the program gets EIO", exc_info=error, function=name)
        return WasiErrno.IO


def _of_stream(file: File, rights: int) -> int:
    """Return the rights of a standard stream, which may be a file with positions."""
    if not file.seekable:
        return rights
    return right.FILE & (rights | ~right.STREAM)


def _preopened(root: Folder, name: str) -> Node:
    if name in root.children:
        return root.children[name]
    node, rest = root.find(tuple(part for part in name.split("/") if part))
    if rest:
        raise ValueError(f"preopen {name!r} is not in the tree")
    return node
