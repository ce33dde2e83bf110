"""How many descriptors of the process programs may hold: not the last ones, which listeners and stores need."""

from __future__ import annotations

import errno
import os
import resource


def shared(handle: int) -> int:
    """Return a descriptor that a program will hold.

    The system gives the lowest number that is free, so a high number says that many are open. The last quarter of
    what the process may have is not for programs: one that opens all it can must not keep the host from accepting
    connections.

    Raises:
        OSError: `ENFILE`, it is one of those; it has been closed.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and handle >= soft - soft // 4:
        os.close(handle)
        raise OSError(errno.ENFILE, f"programs have {handle} of the {soft} descriptors of this process open")
    return handle
