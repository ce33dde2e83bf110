"""Records of `discovery.mdns`: a question to the local network, what it answers, a service of one's own."""

from __future__ import annotations

import msgspec


class MdnsBrowse(msgspec.Struct, kw_only=True, frozen=True):
    """What to look for, and how long.

    Attributes:
        service: such as `_http._tcp`; `_projx._tcp` when empty.
        timeout_ms: the window; 2,500 for 0 and less, at most 10,000.
    """

    service: str = ""
    timeout_ms: int = 0


class MdnsAnnounce(msgspec.Struct, kw_only=True, frozen=True):
    """A service that a cell offers.

    Attributes:
        instance: its name, 1 to 63 bytes.
        service: such as `_http._tcp`; `_projx._tcp` when empty.
        port: where it listens, 1..65535.
    """

    instance: str = ""
    service: str = ""
    port: int = 0


class MdnsService(msgspec.Struct, frozen=True):
    """A service that was found.

    Attributes:
        name: of the instance.
        addr: `http://ip:port`.
    """

    name: str
    addr: str
