"""Folders of a whole host: which are some cell's already, and where all of them keep their data."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final


class Grounds:
    """One for each host, also for one of several applications; get it with `env.services.get(Grounds, Grounds)`.

    Args:
        storage_root: where every application of the host has its own; None in a host with one storage root.

    Attributes:
        roots: folders that cells have, by cell id.
        lock: held while one is looked for and taken.
    """

    def __init__(self, storage_root: Path | None = None) -> None:
        self.storage_root: Final = storage_root
        self.roots: Final[dict[str, Path]] = {}
        self.lock: Final = threading.Lock()
