"""Where a capability can be reached from outside."""

from __future__ import annotations

from typing import NamedTuple


class Endpoint(NamedTuple):
    """An address that a capability listens on.

    Attributes:
        capability: its name.
        name: the role of the address, e.g. `public`.
        address: a URL with the port that is really bound, e.g. `http://127.0.0.1:8080`.
    """

    capability: str
    name: str
    address: str
