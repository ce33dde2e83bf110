"""Entries in memory, the recently used ones, up to so many bytes."""

from __future__ import annotations

from typing import Final

from pulp_runtime.kv.entry import Entry

OVERHEAD_BYTES: Final = 300
"""What an entry costs beside its key and its value."""


class Cache:
    """Two generations: what is used is in the younger one; when that has half of the room, the older one is forgotten.

    Changed under the store's lock only. `recent` may be read from any thread at any time.

    Attributes:
        recent: the younger generation.

    Args:
        room_bytes: for both together.
    """

    def __init__(self, room_bytes: int) -> None:
        self.recent: dict[bytes, Entry] = {}
        self._older: dict[bytes, Entry] = {}
        self._half: Final = room_bytes // 2
        self._bytes = 0

    def find(self, key: bytes) -> Entry | None:
        """Return an entry of either generation, which is recent from now on."""
        entry = self.recent.get(key)
        if entry is None:
            entry = self._older.pop(key, None)
            if entry is not None:
                self.keep(key, entry)
        return entry

    def keep(self, key: bytes, entry: Entry) -> None:
        """Remember an entry in place of what was known of the key."""
        self.forget(key)
        size = _size(key, entry)
        if size > self._half:
            return
        if self._bytes + size > self._half:
            self._older = self.recent
            self.recent = {}
            self._bytes = 0
        self.recent[key] = entry
        self._bytes += size

    def forget(self, key: bytes) -> None:
        """Forget a key."""
        entry = self.recent.pop(key, None)
        if entry is not None:
            self._bytes -= _size(key, entry)
        self._older.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self.recent = {}
        self._older = {}
        self._bytes = 0


def _size(key: bytes, entry: Entry) -> int:
    return len(key) + len(entry.value) + OVERHEAD_BYTES
