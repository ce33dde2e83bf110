"""The record of `workers`: a request that is made while the cell does something else."""

from __future__ import annotations

from typing import Annotated

import msgspec

U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]


class WorkerTask(msgspec.Struct, kw_only=True, frozen=True):
    """What a cell wants to have done.

    Attributes:
        type: `http.fetch`; there is nothing else.
        method: blank is GET.
        url: absolute.
        headers: or None.
        body: or None.
        timeout_ms: for the whole exchange; 300,000 for 0.
    """

    type: str = ""
    method: str = ""
    url: str = ""
    headers: dict[str, str] | None = None
    body: bytes | None = None
    timeout_ms: U32 = 0
