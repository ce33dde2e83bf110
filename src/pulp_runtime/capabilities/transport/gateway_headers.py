"""What an application is told of how a request came: never by the client, unless the operator trusts it to.

| header | value |
|---|---|
| `X-Pulp-Application`, `X-Pulp-Application-Instance` | whose request it is |
| `X-Forwarded-Prefix` | the path of the route, whatever anybody before says |
| `X-Forwarded-For` | the client's address; or what a trusted proxy says |
| `X-Forwarded-Host` | the host that the client asked for; or what a trusted proxy says |
| `X-Forwarded-Proto` | `http` or `https`; or what a trusted proxy says |
| `Forwarded`, other `X-Forwarded-*`, `X-Real-Ip` | taken away; or what a trusted proxy says |
"""

from __future__ import annotations

from typing import Final

from pulp_runtime._net.exchange import Request
from pulp_runtime._net.head import MEMO_BYTES, MEMO_ENTRIES, HeaderBlock

APPLICATION: Final = "X-Pulp-Application"
INSTANCE: Final = "X-Pulp-Application-Instance"
PREFIX: Final = "X-Forwarded-Prefix"
FOR: Final = "X-Forwarded-For"
HOST: Final = "X-Forwarded-Host"
PROTO: Final = "X-Forwarded-Proto"

_OURS: Final = frozenset(name.lower() for name in (APPLICATION, INSTANCE, PREFIX))
_FORWARDING: Final = ("forwarded", "x-real-ip")


class Remembered(dict["tuple[Headers, HeaderBlock, str, bool]", HeaderBlock]):
    """What the listener's blocks became, for every route of a gateway together; bounded, like the listener's own."""


class Headers:
    """What headers the requests of one route get.

    Args:
        application: its id.
        instance: which of its instances.
        prefix: the path of the route, "" for a request that did not come by one.
        proxies: whether the listener has cleared already what only a trusted proxy may say.
        memo: for blocks that the listener remembers; None when each request has one of its own.
    """

    def __init__(self, application: str, instance: str, prefix: str, *, proxies: bool, memo: Remembered | None) -> None:
        self._route: Final = {APPLICATION: application, INSTANCE: instance} | ({PREFIX: prefix} if prefix else {})
        self._proxies: Final = proxies
        self._memo: Final = memo

    def block(self, request: Request) -> HeaderBlock:
        """Return a request's header block as the application gets it."""
        connection, block = request.connection, request.block
        address = connection.remote_addr.rpartition(":")[0]
        memo = self._memo
        if memo is None or request.line.host:
            return self._made(block, address, connection.secure, request.line.host or block.host)
        key = (self, block, address, connection.secure)
        known = memo.get(key)
        if known is None:
            known = self._made(block, address, connection.secure, block.host)
            if block.neutral and block.size <= MEMO_BYTES:
                if len(memo) >= MEMO_ENTRIES:
                    memo.clear()
                memo[key] = known
        return known

    def _made(self, block: HeaderBlock, address: str, secure: bool, host: str) -> HeaderBlock:
        fields = {name: value for name, value in block.fields.items() if not self._is_ours(name)}
        if address:
            fields.setdefault(FOR, address.strip("[]"))
        if host:
            fields.setdefault(HOST, host)
        fields.setdefault(PROTO, "https" if secure else "http")
        return block.with_fields(fields | self._route)

    def _is_ours(self, name: str) -> bool:
        """Whether only we say this, also where it is spelled so that an application may take it for the same."""
        plain = name.lower().replace("_", "-")
        if plain in _OURS:
            return True
        about = plain.startswith("x-forwarded-") or plain in _FORWARDING
        return about and (not self._proxies or plain != name.lower())
