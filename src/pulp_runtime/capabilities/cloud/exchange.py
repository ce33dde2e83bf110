"""One request for a program, and its answer: what `/request` and `/response` show two sides of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pulp_runtime.capabilities.cloud.reply import Reply
from pulp_runtime.capabilities.cloud.request_body import RequestBody

if TYPE_CHECKING:
    from pulp_runtime._net.exchange import Request
    from pulp_runtime._net.head import HeaderBlock
    from pulp_runtime._net.routes import Match
    from pulp_runtime.capabilities.transport.program_answer import Wire
    from pulp_runtime.ext import CellRef


class Asked:
    """One request, as `/request` shows it.

    Attributes:
        number: its id, counted from 1 for the whole host.
        request: as it came.
        match: the route it came by.
        body: of the request.
    """

    __slots__ = ("_values", "body", "match", "number", "request")

    def __init__(self, number: int, request: Request, match: Match, body: RequestBody) -> None:
        self.number: Final = number
        self.request: Final = request
        self.match: Final = match
        self.body: Final = body
        self._values: dict[str, str] | None = None

    @property
    def host(self) -> str:
        """The host that was asked, with its port if one was named."""
        return self.request.line.host or self.request.block.host

    @property
    def remote_ip(self) -> str:
        """The peer's address without its port."""
        return self.request.connection.remote_addr.rpartition(":")[0].strip("[]")

    @property
    def query(self) -> str:
        """The query as it was sent."""
        return self.request.line.target.partition("?")[2]

    @property
    def headers(self) -> dict[str, str]:
        """Header fields by lower-case name, Host among them; a line for each value of a name that came repeatedly."""
        values = self._values
        if values is None:
            values = self._values = header_values(self.request.block)
            values["host"] = self.host
        return values


class Exchange(Asked):
    """One request and its answer.

    Attributes:
        owner: id of the cell it is for.
        reply: what is answered.
        begun: a program has been given it.
    """

    __slots__ = ("begun", "owner", "reply")

    def __init__(
        self, number: int, cell: CellRef, request: Request, match: Match, body: RequestBody, wire: Wire
    ) -> None:
        super().__init__(number, request, match, body)
        self.owner: Final = cell.id
        self.reply: Final = Reply(cell, number, wire, request)
        self.begun = False


def header_values(block: HeaderBlock) -> dict[str, str]:
    """Return the fields of a block by lower-case name; several values of one are on lines of their own."""
    values = {name.lower(): value for name, value in block.fields.items()}
    for name, more in block.repeated.items():
        values[name.lower()] = "\n".join((block.fields[name], *more)) if name in block.fields else "\n".join(more)
    return values
