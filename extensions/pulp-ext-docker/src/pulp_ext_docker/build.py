"""Images from the operator's templates: one at a time, in the background."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple
from urllib.parse import urlencode

from docker.utils import build as packing

from pulp_ext_docker.loop import Unanswered, lines
from pulp_ext_docker.messages import UNSET, BuildStatus, int64

CONTEXT_BYTES: Final = 512 * 1024 * 1024
"""Longest archive of a folder."""
MOST_SECONDS: Final = 3_600.0
_MOST_ERROR: Final = 1_000


class Order(NamedTuple):
    """What is to be built."""

    folder: Path
    tag: str
    arguments: dict[str, str]


class Builder:
    """Builds one image at a time. `begin` and `status` from any thread.

    Args:
        socket: path of the daemon's.
        told: called with an error's text when a build has failed, and with "" when it has not.
    """

    def __init__(self, socket: str, told: Callable[[Order, str], None]) -> None:
        self._socket: Final = socket
        self._told: Final = told
        self._lock: Final = threading.Lock()
        self._building = False
        self._ended = 0
        self._error = ""

    def begin(self) -> bool:
        """Take the one place there is; return False if it is taken. Whoever has it runs `run`."""
        with self._lock:
            if self._building:
                return False
            self._building = True
            return True

    def status(self) -> BuildStatus:
        """Return where building is."""
        with self._lock:
            return BuildStatus(self._building, int64(self._ended), self._error or UNSET)

    async def run(self, order: Order) -> None:
        """Build, and give the place back."""
        error = "stopped, because the host stops"
        try:
            async with asyncio.timeout(MOST_SECONDS):
                error = await self._build(order)
        except TimeoutError:
            error = f"stopped after {MOST_SECONDS:.0f} s"
        except (Unanswered, OSError, ValueError) as failure:
            error = str(failure) or type(failure).__name__
        finally:
            error = error[:_MOST_ERROR]
            with self._lock:
                self._building, self._ended, self._error = False, int(time.time()), error
            self._told(order, error)

    async def _build(self, order: Order) -> str:
        """Return the daemon's error, "" if there is none."""
        archive = await asyncio.to_thread(_packed, order.folder)
        with archive:
            size = os.fstat(archive.fileno()).st_size
            if size > CONTEXT_BYTES:
                return f"the folder has more than {CONTEXT_BYTES:,} bytes"
            query = urlencode({"t": order.tag, "rm": 1, "forcerm": 1, "buildargs": json.dumps(order.arguments)})
            headers = {"Content-Type": "application/x-tar"}
            async with lines(self._socket, "POST", f"/build?{query}", headers, archive, size) as told:
                async for line in told:
                    if "error" in line:
                        return str(line["error"])
        return ""


def _packed(folder: Path) -> BinaryIO:
    """Return an archive of a folder, without what its `.dockerignore` names."""
    ignored: list[str] = []
    listing = folder / ".dockerignore"
    if listing.is_file():
        text = listing.read_text(errors="replace")
        ignored = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    archive: Any = packing.tar(str(folder), exclude=ignored)
    archive.seek(0)
    return archive  # type: ignore[no-any-return]  # the library has no types
