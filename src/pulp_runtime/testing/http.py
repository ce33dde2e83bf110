"""`transport.http.inbound` without a listener: the real routes and checks, and answers that go to the test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from pulp_runtime._net.fields import canonical_name
from pulp_runtime._net.response import ResponseInvalid, render_head_fields
from pulp_runtime._net.routes import RouteConflict, RouteInvalid, RouteTable
from pulp_runtime._net.target import parse_target
from pulp_runtime.abi.http import HTTPRegister, HTTPResponse, encode_http_request
from pulp_runtime.ext import CellRef, Errno, HostError, StepEvent, host_function

NAME: Final = "transport.http.inbound"


class HttpInbound:
    """Routes of one cell, the request it is working on, and its answers."""

    def __init__(self) -> None:
        self._table = RouteTable()
        self._waiting: Final[set[int]] = set()
        self._answers: Final[dict[int, HTTPResponse]] = {}
        self._last_id = 0

    @host_function
    def http_register(self, cell: CellRef, route: HTTPRegister) -> None:
        """See `transport.http.inbound`."""
        try:
            self._table = self._table.add(route.method, route.path, cell.id)
        except (RouteInvalid, RouteConflict) as error:
            raise HostError(Errno.FAILED, str(error)) from None

    @host_function
    def http_respond(self, cell: CellRef, reply: HTTPResponse) -> None:
        """See `transport.http.inbound`."""
        if reply.id not in self._waiting:
            raise HostError(Errno.FAILED, "no such request")
        try:
            render_head_fields(reply.status, reply.headers or {}, reply.cookies or ())
        except ResponseInvalid as error:
            cell.log.warning("response refused", reason=str(error))
            raise HostError(Errno.FAILED, str(error)) from None
        self._waiting.discard(reply.id)
        self._answers[reply.id] = reply

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, remote_addr: str
    ) -> StepEvent | None:
        """Return the event of a request, None if no route matches it."""
        parsed = parse_target(method, target)
        match = self._table.match(method, parsed.path)
        if match is None:
            return None
        self._last_id += 1
        self._waiting.add(self._last_id)
        payload = encode_http_request(
            self._last_id,
            method,
            parsed.path,
            params=match.params,
            query=parsed.query,
            headers={canonical_name(name): value for name, value in headers.items()},
            body=body,
            remote_addr=remote_addr,
        )
        return StepEvent("http.request", payload, self._last_id)

    def response(self, event: StepEvent | None) -> HTTPResponse:
        """Return what the client of a request gets: the cell's answer, or the host's own when there is none."""
        if event is None:
            return _plain(0, 404, b"404 page not found")
        self._waiting.discard(event.id)
        answer = self._answers.pop(event.id, None)
        if answer is None:
            return _plain(event.id, 500, b"cell did not respond")
        return msgspec.structs.replace(
            answer,
            status=answer.status or 200,
            headers=answer.headers or {},
            cookies=answer.cookies or [],
            body=answer.body or b"",
        )

    def teardown_cell(self, _cell_id: str) -> None:
        """Forget the cell's routes."""
        self._table = RouteTable()
        self._waiting.clear()


def _plain(number: int, status: int, body: bytes) -> HTTPResponse:
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    return HTTPResponse(id=number, status=status, headers=headers, cookies=[], body=body)
