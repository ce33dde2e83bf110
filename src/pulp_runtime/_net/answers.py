"""The host's own answers. Each is fields and a body, for `Connection.render`."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Final, NamedTuple

from pulp_runtime._net.response import RenderedFields, assemble, render_head_fields


class Answer(NamedTuple):
    """A complete answer."""

    fields: RenderedFields
    body: bytes


@cache
def _error_fields(status: int) -> RenderedFields:
    headers = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    return render_head_fields(status, headers)


def error(status: int, text: str) -> Answer:
    """Return an answer as Go's `http.Error` writes it: text, newline, nosniff."""
    return Answer(_error_fields(status), f"{text}\n".encode())


def plain(status: int, text: bytes) -> Answer:
    """Return an answer as the contract's handler writes it by itself: text, no newline."""
    return Answer(render_head_fields(status, {"Content-Type": "text/plain; charset=utf-8"}), text)


def not_found() -> Answer:
    """Return the answer for a path without a route: no newline, no charset."""
    return Answer(_NOT_FOUND, b"404 page not found")


def redirect(location: str, method: str) -> Answer:
    """Return a permanent redirect.

    301 for GET and HEAD, which every client follows with the same method; 308
    for the others, so that their method and body survive.
    """
    if method not in ("GET", "HEAD"):
        return Answer(render_head_fields(HTTPStatus.PERMANENT_REDIRECT, {"Location": location}), b"")
    from html import escape  # rare, and long to import

    status = HTTPStatus.MOVED_PERMANENTLY
    headers = {"Location": location, "Content-Type": "text/html; charset=utf-8"}
    body = f'<a href="{escape(location)}">{status.phrase}</a>.\n\n'.encode()
    return Answer(render_head_fields(status, headers), body)


def unrouted(location: str, method: str) -> Answer:
    """Return the answer for a request that no route can be for: an unclean path, or `OPTIONS *`."""
    return redirect(location, method) if location else Answer(render_head_fields(200, {}), b"")


def last_words(status: int, text: str) -> bytes:
    """Return an error as HTTP/1 bytes that end the connection."""
    return assemble(*error(status, text), keep_alive=False)


_NOT_FOUND: Final = render_head_fields(404, {"Content-Type": "text/plain"})
