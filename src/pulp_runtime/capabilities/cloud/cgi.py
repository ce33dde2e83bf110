"""CGI/1.1 for functions (RFC 3875): the request in the environment and on stdin, the answer on standard output.

Standard output is the answer of a function that writes nothing to `/response`. Until that is known it is kept here:

* it begins with a header block: it is the answer from then on, and goes out as it is written;
* it does not: it is `text/plain` once there is more than 64 KiB of it, or once the function ends with status 0;
* something is written to `/response`: it goes to the cell's log, and so does all that follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pulp_runtime.capabilities.cloud.reply import Reply
from pulp_runtime.capabilities.cloud.response_text import HEAD_BYTES, UNDECIDED, Head, Malformed, judge, parse_cgi_head
from pulp_runtime.ext.tree import File, Kind, Wake

if TYPE_CHECKING:
    from pulp_runtime._net.head import HeaderBlock
    from pulp_runtime.capabilities.cloud.exchange import Asked

HELD_BYTES: Final = HEAD_BYTES
TAIL_BYTES: Final = 2048
"""Bytes of standard error that a log record of a failure quotes."""
_PLAIN: Final = Head(200, [("content-type", "text/plain; charset=utf-8")])

#: Of these a program learns elsewhere, or had better not: RFC 3875 §4.1.18, and `Proxy` would become `HTTP_PROXY`,
#: which many libraries take for the operator's word.
_WITHHELD: Final = frozenset({"Authorization", "Proxy-Authorization", "Proxy", "Content-Length", "Content-Type"})


def environment(asked: Asked, software: str) -> dict[str, str]:
    """Return the variables of a request (RFC 3875 §4.1). `SCRIPT_NAME` is what a gateway has taken off the path."""
    request, host = asked.request, asked.host
    line, block, connection = request.line, request.block, request.connection
    name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not name:
        name, port = host, ""
    variables = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": software,
        "SERVER_PROTOCOL": "HTTP/2.0" if request.stream else f"HTTP/1.{line.minor}",
        "SERVER_NAME": name,
        "SERVER_PORT": port or ("443" if connection.secure else "80"),
        "REQUEST_METHOD": line.method,
        "REQUEST_URI": line.target,
        "SCRIPT_NAME": line.prefix,
        "PATH_INFO": line.path,
        "QUERY_STRING": asked.query,
        "REMOTE_ADDR": asked.remote_ip,
        "REMOTE_PORT": connection.remote_addr.rpartition(":")[2],
    }
    if connection.secure:
        variables["HTTPS"] = "on"
    fields = block.fields
    if "Content-Type" in fields:
        variables["CONTENT_TYPE"] = fields["Content-Type"]
    if block.content_length is not None:
        variables["CONTENT_LENGTH"] = str(block.content_length)
    if host:
        variables["HTTP_HOST"] = host
    variables.update(header_variables(block))
    return variables


def header_variables(block: HeaderBlock) -> Mapping[str, str]:
    """Return `HTTP_*`, several values joined by commas; none for names with an underscore, which look like others."""
    found = {}
    for name, value in block.fields.items():
        if name not in _WITHHELD and "_" not in name:
            more = block.repeated.get(name, ())
            found["HTTP_" + name.upper().replace("-", "_")] = ", ".join((value, *more)) if more else value
    return found


class CgiOut(File):
    """Standard output of a function.

    Args:
        reply: of its request.
        log: where standard output goes otherwise.
    """

    kind = Kind.UNKNOWN

    def __init__(self, reply: Reply, log: File) -> None:
        self._reply: Final = reply
        self._log: Final = log
        self._held = b""
        self._verdict = UNDECIDED
        self._logs = False

    def write(self, data: bytes) -> int:
        """See `File.write`."""
        reply = self._reply
        if reply.mode == "cgi":
            return reply.answer.write(data)
        if reply.mode or self._logs or reply.answer.over:
            self.give_up()
            return self._log.write(data)
        data = data[: max(1, 2 * HELD_BYTES - len(self._held))]
        held = self._held = self._held + data
        if not self._verdict.decided:
            self._verdict = judge(held)
        if self._verdict.decided and (self._verdict.body or len(held) > HELD_BYTES):
            self._begin()
        return len(data)

    def _begin(self) -> None:
        """Take what was written for the answer."""
        reply, verdict = self._reply, self._verdict
        reply.claim("cgi")
        held, self._held = self._held, b""
        try:
            reply.begin(parse_cgi_head(held[: verdict.head]) if verdict.body else _PLAIN)
        except Malformed as error:
            raise reply.fail(error) from None
        if len(held) > verdict.body:
            reply.answer.write(held[verdict.body :])

    def end(self, *, well: bool) -> None:
        """Decide at the end: what was written is the answer if there is no other, and the function ended well."""
        if self._held and well and not self._reply.mode and not self._reply.answer.over:
            try:
                self._begin()
            except OSError:  # told, or nobody is there to be told
                pass
        elif self._held:
            self.give_up()
        self._log.close()

    def give_up(self) -> None:
        """Have what was written, and all that follows, in the log."""
        self._logs = True
        held, self._held = self._held, b""
        if held:
            self._log.write(held)

    def ready(self, *, write: bool = False) -> int | None:
        """See `File.ready`."""
        if self._reply.mode == "cgi":
            return 0 if not write or self._reply.answer.has_room else None
        return self._log.ready(write=write) if self._logs else 0

    def watch(self, wake: Wake) -> Wake:
        """See `File.watch`."""
        return self._reply.answer.room.watch(wake)


class Tail(File):
    """Standard error, of which the last bytes are kept.

    Args:
        log: where it goes.

    Attributes:
        kept: the last 2 KiB.
    """

    kind = Kind.DEVICE

    def __init__(self, log: File) -> None:
        self._log: Final = log
        self.kept = b""

    def write(self, data: bytes) -> int:
        """See `File.write`."""
        taken = self._log.write(data)
        self.kept = (self.kept + data[:taken])[-TAIL_BYTES:]
        return taken

    def ready(self, *, write: bool = False) -> int | None:
        """See `File.ready`."""
        return self._log.ready(write=write)

    def watch(self, wake: Wake) -> Wake:
        """See `File.watch`."""
        return self._log.watch(wake)

    def close(self) -> None:
        """See `File.close`."""
        self._log.close()
