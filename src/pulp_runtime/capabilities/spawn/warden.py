"""Ends what cells started when the host dies before it can.

    host ── "+ mark pid" ──▶ pipe ──▶ warden          the host is gone: the pipe ends: it kills what is left

A host that stops ends its processes itself. One that is killed cannot, and nobody else would: so a small process of
its own, begun with the first that a cell starts, holds the other end of a pipe.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from pulp_runtime.capabilities.spawn import tree
from pulp_runtime.log import Log

_END_SECONDS: Final = 2.0


class Warden:
    """The process, begun when first needed and again should it have ended. For any thread."""

    def __init__(self, log: Log) -> None:
        self._log: Final = log
        self._lock: Final = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._trees: Final[dict[str, int]] = {}

    def watch(self, mark: str, pid: int = 0) -> None:
        """Have a tree ended should this process die: by its mark alone before it is begun, then by its pid too."""
        with self._lock:
            self._trees[mark] = pid
            if self._process is None or not self._tell(f"+ {mark} {pid}\n"):
                self._begin()

    def forget(self, mark: str) -> None:
        """Take back what was said of a tree that has ended, or was never begun."""
        with self._lock:
            if self._trees.pop(mark, None) is not None and not self._tell(f"- {mark}\n") and self._trees:
                self._begin()

    def _begin(self) -> None:
        """Start the process and tell it everything. Under the lock."""
        self._end()
        if not sys.executable:
            self._log.warning("processes of cells outlive a host that is killed", reason="no Python to watch them")
            return
        try:
            self._process = subprocess.Popen(  # noqa: S603  # nothing in it is a cell's
                [sys.executable, "-I", "-S", str(Path(tree.__file__))],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                start_new_session=True,
            )
        except OSError as error:
            self._log.warning("processes of cells outlive a host that is killed", reason=str(error))
            return
        for mark, pid in self._trees.items():
            self._tell(f"+ {mark} {pid}\n")

    def _tell(self, line: str) -> bool:
        process = self._process
        if process is None or process.stdin is None:
            return False
        try:
            process.stdin.write(line.encode())
            process.stdin.flush()
        except OSError:  # somebody ended it
            return False
        return True

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            if process.stdin is not None:
                process.stdin.close()
        except OSError:
            pass
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End it, when no tree is left. May be called again."""
        with self._lock:
            if not self._trees:
                self._end()
