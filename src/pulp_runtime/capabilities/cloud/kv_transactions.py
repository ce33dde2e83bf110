"""`.tx/<name>/…`: `mkdir` begins a transaction, `rename` to `<name>.commit` commits it, `rmdir` rolls it back."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final, NamedTuple

from pulp_runtime.capabilities.cloud.kv_area import Area, folder_entry, folder_stat, missing, refused
from pulp_runtime.capabilities.cloud.kv_backend import Transacting
from pulp_runtime.capabilities.cloud.kv_keys import Keys
from pulp_runtime.capabilities.cloud.kv_mount import Mount, key_of
from pulp_runtime.capabilities.cloud.kv_view import Isolated
from pulp_runtime.ext import Entry, File, How, Outcome, Stat
from pulp_runtime.ext.tree import Parts

OPEN: Final = 8
"""Most transactions of one run in one scope."""
COMMIT: Final = ".commit"


class _Begun(NamedTuple):
    transaction: Transacting
    view: Isolated
    keys: Keys


class Transactions(Area):
    """The transactions of one run; nobody else sees them."""

    def __init__(self, mount: Mount) -> None:
        super().__init__(mount)
        self._begun: Final[dict[str, _Begun]] = {}
        self._ends = False

    def at(self, parts: Parts) -> tuple[Area, Parts]:
        """See `Area.at`: what is below a transaction is its keys."""
        if len(parts) > 1:
            return self._find(parts[0]).keys, parts[1:]
        return self, parts

    def _find(self, name: str) -> _Begun:
        begun = self._begun.get(name)
        if begun is None:
            key_of((name,))
            raise missing()
        return begun

    def open(self, parts: Parts, how: How) -> File | None:
        """See `Area.open`."""
        if parts:
            return self._find(parts[0]).keys.open((), how)
        if how.changes:
            raise refused()
        return None

    def stat(self, parts: Parts) -> Stat:
        """See `Area.stat`."""
        if parts:
            self._find(parts[0])
        return folder_stat(parts, self.mount.granted.device)

    def entries(self, parts: Parts) -> Iterator[Entry]:
        """See `Area.entries`."""
        if parts:
            yield from self._find(parts[0]).keys.entries(())
        else:
            for name in sorted(self._begun):
                yield folder_entry((name,))

    def make_folder(self, parts: Parts) -> None:
        """See `Area.make_folder`: begin."""
        if not parts or parts[0] in self._begun:
            raise FileExistsError(errno.EEXIST, "there is a folder")
        key_of(parts)
        if parts[0].endswith(COMMIT):
            raise OSError(errno.EINVAL, f"{COMMIT} is for the name that commits")
        if len(self._begun) >= OPEN:
            raise OSError(errno.EBUSY, f"{OPEN} transactions are open")
        with self.mount.answering:
            transaction = self.mount.keys.begin()
        view = Isolated(self.mount, transaction)
        self._begun[parts[0]] = _Begun(transaction, view, Keys(self.mount, view))
        if not self._ends:
            self._ends = True
            self.mount.run.on_end(self._end)

    def rename(self, parts: Parts, to_parts: Parts) -> None:
        """See `Area.rename`: commit, or `ESTALE` and it is rolled back."""
        if not parts or not to_parts:
            raise refused()
        name = parts[0]
        transaction = self._find(name).transaction
        if to_parts[0] != name + COMMIT:
            raise OSError(errno.EINVAL, f"a transaction is renamed to {name}{COMMIT}")
        size = transaction.written_bytes
        self.mount.room(size)
        self._begun.pop(name).view.end()
        with self.mount.answering, self.mount.waiting(size):
            transaction.commit()

    def remove_folder(self, parts: Parts) -> None:
        """See `Area.remove_folder`: roll back, whatever is in it."""
        if not parts:
            raise refused()
        begun = self._find(parts[0])
        begun.transaction.rollback()
        begun.view.end()
        del self._begun[parts[0]]

    def unlink(self, parts: Parts) -> None:
        """See `Area.unlink`: the same."""
        self.remove_folder(parts)

    def _end(self, _outcome: Outcome) -> None:
        for name in list(self._begun):
            self.remove_folder((name,))
