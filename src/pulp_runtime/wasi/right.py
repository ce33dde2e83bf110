"""The flags of preview 1: what a descriptor may be used for, and how it behaves."""

from __future__ import annotations

from typing import Final

DATASYNC: Final = 1 << 0
READ: Final = 1 << 1
SEEK: Final = 1 << 2
SET_FLAGS: Final = 1 << 3
SYNC: Final = 1 << 4
TELL: Final = 1 << 5
WRITE: Final = 1 << 6
ADVISE: Final = 1 << 7
ALLOCATE: Final = 1 << 8
CREATE_FOLDER: Final = 1 << 9
CREATE_FILE: Final = 1 << 10
LINK_SOURCE: Final = 1 << 11
LINK_TARGET: Final = 1 << 12
OPEN: Final = 1 << 13
READDIR: Final = 1 << 14
READLINK: Final = 1 << 15
RENAME_SOURCE: Final = 1 << 16
RENAME_TARGET: Final = 1 << 17
PATH_STAT: Final = 1 << 18
PATH_SET_SIZE: Final = 1 << 19
PATH_SET_TIMES: Final = 1 << 20
STAT: Final = 1 << 21
SET_SIZE: Final = 1 << 22
SET_TIMES: Final = 1 << 23
SYMLINK: Final = 1 << 24
REMOVE_FOLDER: Final = 1 << 25
UNLINK: Final = 1 << 26
POLL: Final = 1 << 27
SHUTDOWN: Final = 1 << 28
ACCEPT: Final = 1 << 29

STREAM: Final = READ | WRITE | SET_FLAGS | SYNC | DATASYNC | STAT | SET_TIMES | POLL
"""What a stream can have."""
FILE: Final = STREAM | SEEK | TELL | ADVISE | ALLOCATE | SET_SIZE
"""What a file with positions can have."""
FOLDER: Final = (
    CREATE_FOLDER | CREATE_FILE | LINK_SOURCE | LINK_TARGET | OPEN | READDIR | READLINK | RENAME_SOURCE | RENAME_TARGET
    | PATH_STAT | PATH_SET_SIZE | PATH_SET_TIMES | STAT | SET_TIMES | SYMLINK | REMOVE_FOLDER | UNLINK | SYNC | DATASYNC
    | SET_FLAGS
)  # fmt: skip
"""What a folder can have."""
WRITING: Final = WRITE | ALLOCATE | SET_SIZE
"""What a file that was not opened for writing has not."""

APPEND: Final = 1
DSYNC: Final = 2
NONBLOCK: Final = 4
RSYNC: Final = 8
FSYNC: Final = 16
DURABLE: Final = DSYNC | RSYNC | FSYNC
FLAGS: Final = APPEND | NONBLOCK | DURABLE

CREAT: Final = 1
DIRECTORY: Final = 2
EXCL: Final = 4
TRUNC: Final = 8

FOLLOW: Final = 1
