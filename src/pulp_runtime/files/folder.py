"""A folder whose content somebody else chooses: whole files, by paths that never lead out of it, within a quota.

What cannot be done raises `OSError`: `PathRefused` for what the path says, `FileNotFoundError` when the thing asked for
is not there, `QuotaExceeded` when it does not fit. Anything but regular files, folders and links is left alone: it is
listed and removed, but never opened, waited for or replaced.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from functools import partial
from typing import Final

from pulp_runtime.files import tree
from pulp_runtime.files.atomic import PREFIX, replace, sync_folder
from pulp_runtime.files.descent import Descent, PathRefused, Root, clean
from pulp_runtime.files.quota import BLOCK, DiskQuota, counted, disk_bytes

LIST_ENTRIES: Final = 262_144
"""Most entries of a folder that is listed."""
TEMPORARY: Final = b"tmp"
"""Where temporary files go when nobody says where."""

_TRIES: Final = 10_000
_FOLDER_MODE: Final = 0o755
_COUNTABLE: Final = 0o500  # what a folder must let its owner do, or its content could not be counted
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW

Pause = Callable[[], None]


class Folder:
    """One cell's files.

    Args:
        root: where they are.
        quota: bound on what is written.
        durable: whether what is done is on the disk when a method returns.
        read_only: refuse whatever would change something, with `EROFS`.
        read_bytes: longest file that is read.
    """

    def __init__(self, root: Root, quota: DiskQuota, *, durable: bool, read_only: bool, read_bytes: int) -> None:
        self._root: Final = root
        self._quota: Final = quota
        self._durable: Final = durable
        self._read_only: Final = read_only
        self._read_bytes: Final = read_bytes

    # Looking ----------------------------------------------------------------------------------------------------

    def read(self, path: bytes) -> bytes:
        """Return all of a file. A file that is replaced meanwhile is read as it was."""
        with Descent(self._root, _parts(path)) as at:
            _regular(at.status())  # before it is opened: that alone means something to a device, and to a pipe
            file = at.open(os.O_RDONLY)
        try:
            status = os.fstat(file)
            _regular(status)
            wanted = status.st_size + 1  # one more than there should be, so that the end shows
            pieces: list[bytes] = []
            total = 0
            while True:
                if max(total, status.st_size) > self._read_bytes:
                    raise OSError(errno.EFBIG, f"longer than {self._read_bytes} bytes")
                piece = os.read(file, wanted)
                pieces.append(piece)
                total += len(piece)
                if not piece or (len(piece) < wanted and total == status.st_size):
                    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
                wanted = min(1 << 20, self._read_bytes + 1)
        finally:
            os.close(file)

    def entries(self, path: bytes, pause: Pause) -> list[tuple[bytes, bool]]:
        """Return the names in a folder and whether each is a folder itself, not through a link, in byte order."""
        with Descent(self._root, [*_parts(path), b"."]) as at:
            folder = os.open(b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=at.folder)
        found = []
        try:
            with os.scandir(folder) as listing:
                for entry in listing:
                    name = os.fsencode(entry.name)
                    if not name.startswith(PREFIX):
                        found.append((name, entry.is_dir(follow_symlinks=False)))
                    if len(found) > LIST_ENTRIES:
                        raise OSError(errno.EFBIG, f"more than {LIST_ENTRIES} entries")
                    pause()
        finally:
            os.close(folder)
        found.sort()
        return found

    def status(self, path: bytes) -> tuple[bytes, os.stat_result]:
        """Return the last name of a path, and what the system knows of what it leads to."""
        parts = _parts(path)
        with Descent(self._root, parts) as at:
            return parts[-1] if parts else os.fsencode(self._root.path.name), at.status()

    # Changing ---------------------------------------------------------------------------------------------------

    def write(self, path: bytes, data: bytes, mode: int) -> None:
        """Make a file of these bytes, in one step; its folders are created, its permissions kept if it was there."""
        parts = self._named(path)
        with Descent(self._root, parts, self._make) as at:
            try:
                there = at.status()
            except FileNotFoundError:
                there = None
            if there is not None:
                _regular(there)
                if not there.st_mode & stat.S_IWUSR:
                    raise OSError(errno.EACCES, "its permissions do not let it be written")
            size = disk_bytes(len(data))
            self._reserve(size)
            try:
                replace(at.folder, at.name, data, mode=mode, like=there, durable=self._durable)
            except BaseException:
                self._quota.charge(-size)
                raise
        if there is not None:
            self._quota.charge(-counted(there))

    def delete(self, path: bytes) -> None:
        """Remove a file, an empty folder, or a link whose way stays inside."""
        parts = self._named(path)
        with Descent(self._root, parts) as at:
            status = self._last(parts, at)
            remove = os.rmdir if stat.S_ISDIR(status.st_mode) else os.unlink
            remove(at.name, dir_fd=at.folder)
            self._quota.charge(-counted(status))
            self._settle(at.folder)

    def remove_all(self, path: bytes, pause: Pause) -> None:
        """Remove whatever is there, folders with all their content; nothing there is as good."""
        parts = self._named(path)
        try:
            with Descent(self._root, parts) as at:
                status = self._last(parts, at)
                if stat.S_ISDIR(status.st_mode):
                    tree.remove(
                        at.folder, at.name, removed=lambda gone: self._quota.charge(-counted(gone)), pause=pause
                    )
                else:
                    os.unlink(at.name, dir_fd=at.folder)
                    self._quota.charge(-counted(status))
                self._settle(at.folder)
        except FileNotFoundError:
            return

    def rename(self, old: bytes, new: bytes) -> None:
        """Give something another path, with new folders where they are missing; a file that is there is replaced."""
        source, target = self._named(old), self._named(new)
        with Descent(self._root, source) as origin:
            self._last(source, origin)
            try:
                self._rename(origin, target)
            except FileNotFoundError as error:  # of the target; what is renamed has just been there
                raise OSError(errno.ENOTDIR, f"the new path: {error.strerror}") from None
            if source[:-1] != target[:-1]:
                self._settle(origin.folder)

    def _rename(self, origin: Descent, target: list[bytes]) -> None:
        with Descent(self._root, target, self._make) as at:
            try:
                replaced = self._last(target, at)
            except FileNotFoundError:
                replaced = None
            if replaced is not None and stat.S_ISDIR(replaced.st_mode):
                raise OSError(errno.EEXIST, "the new path is a folder")
            before = origin.status(follow=False)
            os.rename(origin.name, at.name, src_dir_fd=origin.folder, dst_dir_fd=at.folder)
            if replaced is not None and not os.path.samestat(before, replaced):
                self._quota.charge(-counted(replaced))
            self._settle(at.folder)

    def make_all(self, path: bytes, mode: int) -> None:
        """Create a folder and those above it that are missing; one that is there is as good."""
        parts = [*_parts(path), b"."]
        self._writable()
        with Descent(self._root, parts, partial(self._make, mode=mode | _COUNTABLE)):
            pass

    def chmod(self, path: bytes, mode: int) -> None:
        """Set the permission bits of a file or a folder, or of what a link leads to; a folder stays countable."""
        parts = _parts(path)
        self._writable()
        with Descent(self._root, parts) as at:
            mode |= _COUNTABLE if stat.S_ISDIR(at.status().st_mode) else 0
            try:
                os.chmod(at.name, mode, dir_fd=at.folder, follow_symlinks=False)
            except (NotImplementedError, ValueError):  # a link has taken its place, or the system cannot do it by name
                file = at.open(os.O_RDONLY)
                try:
                    os.fchmod(file, mode)
                finally:
                    os.close(file)

    def create_temporary(self, folder: bytes, pattern: bytes, *, directory: bool) -> bytes:
        """Create an empty file (0600) or folder (0700) of a name that nobody has; return its path.

        Args:
            folder: where; "" for `tmp`, which is created, any other must be there.
            pattern: a random number takes the place of its last `*`, or follows it if it has none.
            directory: which of the two.
        """
        parts = _parts(folder) if folder else [TEMPORARY]
        prefix, suffix = _pattern(pattern)
        self._writable()
        with Descent(self._root, [*parts, b"."], None if folder else self._make) as at:
            self._reserve(BLOCK)
            for _ in range(_TRIES):
                name = prefix + str(secrets.randbits(32)).encode() + suffix
                try:
                    if directory:
                        os.mkdir(name, 0o700, dir_fd=at.folder)
                    else:
                        os.close(os.open(name, _NEW_FILE, 0o600, dir_fd=at.folder))
                except FileExistsError:
                    continue
                except BaseException:
                    self._quota.charge(-BLOCK)
                    raise
                return b"/".join([*parts, name])
            self._quota.charge(-BLOCK)
        raise OSError(errno.EEXIST, "every name that was tried exists")

    # Parts of it ------------------------------------------------------------------------------------------------

    def _writable(self) -> None:
        if self._read_only:
            raise OSError(errno.EROFS, "read-only by the cell's settings")

    def _named(self, path: bytes) -> list[bytes]:
        """Return the components of something that is to be changed, which the folder itself is not."""
        parts = _parts(path)
        self._writable()
        if not parts:
            raise OSError(errno.EBUSY, "the folder itself")
        return parts

    def _reserve(self, size: int) -> None:
        self._quota.check(size)
        self._quota.charge(size)

    def _make(self, folder: int, name: bytes, mode: int = _FOLDER_MODE) -> None:
        self._writable()
        self._reserve(BLOCK)
        try:
            os.mkdir(name, mode, dir_fd=folder)
        except FileExistsError:
            self._quota.charge(-BLOCK)
            return
        except BaseException:
            self._quota.charge(-BLOCK)
            raise
        self._settle(folder)

    def _last(self, parts: list[bytes], at: Descent) -> os.stat_result:
        """Return what the last component is, a link not followed; but a link that leads out is refused."""
        status = at.status(follow=False)
        if stat.S_ISLNK(status.st_mode):
            try:
                with Descent(self._root, parts) as probe:
                    probe.status()
            except (FileNotFoundError, NotADirectoryError):
                pass  # it leads to nothing, inside
        return status

    def _settle(self, folder: int) -> None:
        if self._durable:
            sync_folder(folder)


def _parts(path: bytes) -> list[bytes]:
    """Return the components of a path that is text and means no file of the host's own.

    U+FFFD is what readers put in the place of bytes that are no text, so a name with it could be one of several.
    """
    parts = clean(path)
    _text(path)
    if any(name.startswith(PREFIX) for name in parts):
        raise PathRefused(errno.EINVAL, f"names that begin with {PREFIX.decode()} are the host's own")
    return parts


def _text(name: bytes) -> None:
    try:
        if "\ufffd" not in name.decode():
            return
    except UnicodeDecodeError:
        pass
    raise PathRefused(errno.EILSEQ, "not UTF-8")


def _pattern(pattern: bytes) -> tuple[bytes, bytes]:
    """Return what stands before and after the random number."""
    if b"/" in pattern or b"\0" in pattern or pattern.startswith(PREFIX):
        raise OSError(errno.EINVAL, "a pattern is one name")
    try:
        _text(pattern)
    except PathRefused as error:
        raise OSError(errno.EILSEQ, error.strerror) from None
    before, star, after = pattern.rpartition(b"*")
    return (before, after) if star else (after, b"")


def _regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, "a folder")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "no regular file")
