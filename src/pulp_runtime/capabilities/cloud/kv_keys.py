"""The keys as files and folders, directly or in a transaction."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from pulp_runtime.capabilities.cloud.kv_area import Area, folder_entry, folder_stat, missing, prefix_of
from pulp_runtime.capabilities.cloud.kv_file import Growing, Snapshot, Value, now_or_never, stat_of
from pulp_runtime.capabilities.cloud.kv_mount import Mount, key_of
from pulp_runtime.capabilities.cloud.kv_view import View
from pulp_runtime.ext import Entry, File, How, Kind, Stat
from pulp_runtime.ext.tree import Parts
from pulp_runtime.kv.folders import Named, folders_of, names

MADE: Final = 1_000
"""Most empty folders that one run has made in one scope."""


class Keys(Area):
    """Files whose names are keys. `/` in a key makes folders; those made without a key are this run's alone.

    Args:
        mount: whose.
        view: the keys.

    Attributes:
        view: the keys.
    """

    def __init__(self, mount: Mount, view: View) -> None:
        super().__init__(mount)
        self.view: Final = view
        self._made: Final[dict[bytes, None]] = {}
        self._emptied: Final[dict[bytes, None]] = {}
        self._open: Final[dict[bytes, list[Value]]] = {}

    # Files ------------------------------------------------------------------------------------------------------

    def open(self, parts: Parts, how: How) -> File | None:
        """See `Area.open`."""
        key = key_of(parts)
        if how.folder or not key:
            self._open_folder(key, how)
            return None
        if how.changes:
            return self._open_to_change(key, how)
        entry = self.view.entry(key)
        if entry is not None:
            return Snapshot(self, entry)
        if self.is_folder(key):
            return None
        raise self._missing(key)

    def _open_folder(self, key: bytes, how: How) -> None:
        if key and not self.is_folder(key):
            if self.view.status(key) is not None:
                raise NotADirectoryError(errno.ENOTDIR, "no folder")
            raise self._missing(key)
        if how.create and how.exclusive:
            raise FileExistsError(errno.EEXIST, "there is a folder")
        if how.write or how.truncate:
            raise IsADirectoryError(errno.EISDIR, "a folder")

    def _open_to_change(self, key: bytes, how: How) -> File | None:
        if how.append and how.write and self.mount.granted.scope != "local":
            raise OSError(errno.ENOTSUP, "values are appended to in the scope local only")
        entry = self.view.entry(key)
        if entry is None:
            self._check_new(key, how)
        elif how.create and how.exclusive:
            raise FileExistsError(errno.EEXIST, "there is a value")
        if how.append and how.write:
            return self._open_to_append(key, entry is not None, how)
        if not (how.create and how.exclusive):
            return Value(self, key, entry, how)
        owner = object()
        if not self.view.reserve(key, owner):
            raise FileExistsError(errno.EEXIST, "somebody is creating it")
        return Value(self, key, None, how, owner)

    def _check_new(self, key: bytes, how: How) -> None:
        """Return if a value may be created at a key where there is none."""
        if self.is_folder(key):
            if how.create and how.exclusive:
                raise FileExistsError(errno.EEXIST, "there is a folder")
            raise IsADirectoryError(errno.EISDIR, "a folder")
        problem = self._missing(key)
        if not how.create or isinstance(problem, NotADirectoryError):
            raise problem

    def _open_to_append(self, key: bytes, there: bool, how: How) -> File:
        exclusive = how.create and how.exclusive
        if not there or how.truncate:
            try:
                self.view.put(key, b"", 0 if not there else None, None)
            except OSError as error:
                if error.errno != errno.ESTALE or exclusive:
                    raise FileExistsError(errno.EEXIST, "there is a value") if exclusive else error from None
        return Growing(self, key, how)

    def attach(self, file: Value) -> None:
        """Note a value that is being written."""
        self._open.setdefault(file.key, []).append(file)

    def detach(self, file: Value) -> None:
        """Forget it."""
        files = self._open.get(file.key, [])
        if file in files:
            files.remove(file)
        if not files:
            self._open.pop(file.key, None)

    def stat(self, parts: Parts) -> Stat:
        """See `Area.stat`."""
        key = key_of(parts)
        status = self.view.status(key) if key else None
        if status is not None:
            return stat_of(status, status.size, self.mount.granted.device)
        if not key or self.is_folder(key):
            return folder_stat(parts, self.mount.granted.device)
        raise self._missing(key)

    def set_times(self, parts: Parts, modified_ns: int | None) -> None:
        """See `Area.set_times`: now puts the value again."""
        now_or_never(modified_ns)
        key = key_of(parts)
        entry = self.view.entry(key) if key else None
        if entry is None:
            if key and not self.is_folder(key):
                raise self._missing(key)
            raise OSError(errno.ENOTSUP, "a folder has no time")
        try:
            self.view.put(key, entry.value, entry.revision, None)
        except OSError as error:
            if error.errno != errno.ESTALE:  # somebody has put it meanwhile: that was now, too
                raise

    def unlink(self, parts: Parts) -> None:
        """See `Area.unlink`; `ESTALE` if a revision is held open and another came first."""
        key = key_of(parts)
        if not key:
            raise IsADirectoryError(errno.EISDIR, "a folder")
        held = self.view.held(key)
        try:
            self.view.delete(key, held[0].revision if held else None)
        except FileNotFoundError:
            if key not in self._open:
                raise (
                    IsADirectoryError(errno.EISDIR, "a folder") if self.is_folder(key) else self._missing(key)
                ) from None
        for file in self._open.pop(key, ()):
            file.detach()
        self._leave(key)

    # Folders ----------------------------------------------------------------------------------------------------

    def is_folder(self, key: bytes) -> bool:
        """See `Area.is_folder`; this run's own among them."""
        prefix = key + b"/"
        return any(made.startswith(prefix) for made in self._made) or bool(self.view.page(prefix, b"", 1))

    def listed(self, folder: bytes) -> Iterator[Named]:
        """See `Area.listed`; this run's own empty folders among them."""
        own = sorted({made[len(folder) :].partition(b"/")[0] + b"/" for made in self._made if made.startswith(folder)})
        own = [name for name in own if name != b"/"]
        for one in names(self.view.page, folder):
            at = one.name + b"/" if one.is_folder else one.name
            while own and own[0] < at:
                yield Named(own.pop(0)[:-1], True, 0)
            if own and own[0] == one.name + b"/":
                own.pop(0)
            yield one
        for name in own:
            yield Named(name[:-1], True, 0)

    def entries(self, parts: Parts) -> Iterator[Entry]:
        """See `Area.entries`."""
        for one in self.listed(prefix_of(parts)):
            name = one.name.decode()
            yield folder_entry((*parts, name)) if one.is_folder else Entry(name, Kind.FILE, one.inode)

    def make_folder(self, parts: Parts) -> None:
        """See `Area.make_folder`: remembered until the run is over."""
        key = key_of(parts)
        if not key or self.view.status(key) is not None or self.is_folder(key):
            raise FileExistsError(errno.EEXIST, "there is something")
        problem = self._missing(key)
        if isinstance(problem, NotADirectoryError):
            raise problem
        if len(self._made) >= MADE:
            raise OSError(errno.EDQUOT, f"{MADE} empty folders are remembered already")
        self._made[key + b"/"] = None
        self._emptied.pop(key + b"/", None)

    def remove_folder(self, parts: Parts) -> None:
        """See `Area.remove_folder`. One that has just gone with its last key may be removed once."""
        key = key_of(parts)
        if not key:
            raise OSError(errno.EBUSY, "the mount itself")
        prefix = key + b"/"
        if self.view.status(key) is not None:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        if self.view.page(prefix, b"", 1) or any(made != prefix and made.startswith(prefix) for made in self._made):
            raise OSError(errno.ENOTEMPTY, "the folder is not empty")
        for known in (self._made, self._emptied):
            if prefix in known:
                del known[prefix]
                for folder in folders_of(key):
                    self._note_emptied(folder)
                return
        raise self._missing(key)

    def rename(self, parts: Parts, to_parts: Parts) -> None:
        """See `Area.rename`: a key in place of another, or a whole folder, in one step."""
        old, new = key_of(parts), key_of(to_parts)
        if not old or not new:
            raise OSError(errno.EBUSY, "the mount itself")
        for file in self._open.get(old, ()):
            file.sync()
        try:
            self.view.rename(old, new)
        except FileNotFoundError:
            if not self.is_folder(old):
                raise self._missing(old) from None
            self._move(old, new)
            return
        if old != new:
            for file in self._open.pop(old, []):
                file.key = new
                self.attach(file)
            self._leave(old)

    def _move(self, old: bytes, new: bytes) -> None:
        if self.view.status(new) is not None:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        if old == new:
            return
        before, after = old + b"/", new + b"/"
        if after.startswith(before):
            raise OSError(errno.EINVAL, "a folder cannot be moved into itself")
        try:
            self.view.move(before, after)
        except FileNotFoundError:
            if self.view.page(after, b"", 1):
                raise OSError(errno.ENOTEMPTY, "the folder is not empty") from None
        except IsADirectoryError:
            raise OSError(errno.ENOTEMPTY, "the folder is not empty") from None
        except OSError as error:
            if error.errno == errno.EBUSY:  # too many keys for one step: `mv` copies them then
                raise OSError(errno.EXDEV, "too many keys") from None
            raise
        for made in [made for made in self._made if made.startswith(before)]:
            del self._made[made]
            self._made[after + made[len(before) :]] = None
        self._leave(old)

    # Helpers ----------------------------------------------------------------------------------------------------

    def _leave(self, key: bytes) -> None:
        """Note that a key is gone: its folders may be gone with it, and `rm -r` removes them next."""
        for folder in folders_of(key):
            self._note_emptied(folder)

    def _note_emptied(self, folder: bytes) -> None:
        self._emptied.pop(folder, None)
        self._emptied[folder] = None
        if len(self._emptied) > MADE:
            del self._emptied[next(iter(self._emptied))]

    def _missing(self, key: bytes) -> OSError:
        """Return what to raise for a key that is not there: a value is in the place of its folder, or nothing is."""
        for folder in folders_of(key):
            if self.view.status(folder[:-1]) is not None:
                return NotADirectoryError(errno.ENOTDIR, "no folder")
        return missing()
