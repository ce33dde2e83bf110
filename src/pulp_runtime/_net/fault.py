"""The one exception of reading a request.

Whatever is wrong with a request, the reader's reaction is the same: answer
`status` with `reason` as text, then close, because after a request that cannot
be read nobody knows where the next one starts.
"""

from __future__ import annotations

from pulp_runtime.errors import PulpError


class RequestFault(PulpError):
    """A request that is refused before any route is looked at.

    Attributes:
        status: the HTTP status to answer with: 400, 408, 413, 414, 417, 431 or 503.
        reason: the text of the answer; never holds bytes of the request.
    """

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"{status} {reason}")


def bad(reason: str) -> RequestFault:
    """Make the fault of a request that breaks the grammar."""
    return RequestFault(400, reason)
