"""A process and everything it started: found, and ended.

What a program starts stays in its process group and session unless it leaves them; then it is still a child of one of
them, unless its parent ended; then it still has the mark that is in the environment of all. Only what does all three,
leaves the session, loses its parent and wipes its environment, or becomes another user, is not found.

This file is a program too: `python -I -S tree.py` reads lines `+ mark pid` and `- mark` from its standard input and,
when that ends, ends every tree that it was told of and that was not taken back. It uses the standard library only.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

MARK: Final = "PULP_TASK"
"""The variable, in the environment of every process of a tree, whose value is the tree's own."""
_PROC: Final = "/proc"
_ROUNDS: Final = 50
_NOBODY: Final = 0x7FFF_FFFF


class Process(NamedTuple):
    """A line of the system's table of processes.

    Attributes:
        pid: its number.
        parent: number of its parent.
        group: number of its process group.
        session: number of its session.
        is_dead: whether it has ended and only waits for its parent to look.
    """

    pid: int
    parent: int
    group: int
    session: int
    is_dead: bool


def processes() -> list[Process]:
    """Return all processes of the machine; none where there is no `/proc`."""
    found = []
    for name in os.listdir(_PROC) if os.path.isdir(_PROC) else ():
        if name.isdigit():
            try:
                with open(f"{_PROC}/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it has ended
                continue
            found.append(Process(int(name), int(fields[1]), int(fields[2]), int(fields[3]), fields[0] in b"ZX"))
    return found


def _has_mark(pid: int, mark: bytes) -> bool:
    try:
        with open(f"{_PROC}/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:  # it has ended, or is another user's
        return False


def members(root: int, mark: str) -> set[int]:
    """Return the processes of a tree that run, `root` among them if it does.

    Args:
        root: number of the first process, leader of its own session.
        mark: the value of `MARK` in its environment.
    """
    there = processes()
    wanted = f"{MARK}={mark}".encode()
    found = {one.pid for one in there if root in (one.pid, one.group, one.session) or _has_mark(one.pid, wanted)}
    grown = True
    while grown:
        more = {one.pid for one in there if one.parent in found} - found
        found |= more
        grown = bool(more)
    return found & {one.pid for one in there if not one.is_dead} - {os.getpid(), os.getppid(), 0, 1}


def kill(root: int, mark: str, seconds: float = 5.0) -> bool:
    """End a tree: every process of it, also those that it starts meanwhile. Return whether nothing is left.

    `root` must not have been waited for: until then nobody else can have its number.
    """
    end = time.monotonic() + seconds
    for _ in range(_ROUNDS):
        try:
            os.killpg(root, signal.SIGKILL)  # all of a group at once: none of them gets to start another
        except OSError:
            pass
        left = members(root, mark)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        if not left:
            return True
        if time.monotonic() > end:
            break
        time.sleep(0.002)
    return not members(root, mark)


def _is_root(pid: int, mark: str) -> bool:
    """Whether a number still stands for this tree: its process has the mark, or nobody has the number."""
    try:
        with open(f"{_PROC}/{pid}/environ", "rb") as file:
            found = file.read()
    except PermissionError:
        return False
    except OSError:
        return True
    return not found or f"{MARK}={mark}".encode() in found.split(b"\0")  # nothing is left of one that has ended


def watch(lines: Iterable[str]) -> None:
    """Remember trees, and end them when there are no more lines; a pid of 0 is not known yet."""
    trees: dict[str, int] = {}
    for line in lines:
        words = line.split()
        if len(words) == 3 and words[0] == "+":
            trees[words[1]] = int(words[2])
        elif len(words) == 2 and words[0] == "-":
            trees.pop(words[1], None)
    for mark, pid in trees.items():
        kill(pid if pid and _is_root(pid, mark) else _NOBODY, mark, 1.0)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.stdin)
