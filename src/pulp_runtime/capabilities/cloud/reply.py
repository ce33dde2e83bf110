"""What a program answers one request with, however it says it.

    nothing yet ──┬─▶ txt    a raw response: head, then body          whichever is written first decides;
                  ├─▶ json   all of it as one object                  writing another then answers EBUSY
                  ├─▶ files  status, headers/<name>, body
                  └─▶ cgi    standard output (functions)

A malformed response is a 502, told to the operator with the part that is wrong.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pulp_runtime._net.response import RenderedFields, ResponseInvalid
from pulp_runtime.capabilities.cloud.response_json import parse_response_json
from pulp_runtime.capabilities.cloud.response_text import (
    HEAD_BYTES,
    Head,
    Malformed,
    Pairs,
    check_field,
    end_of_head,
    parse_response_head,
    parse_status,
    text_of,
)
from pulp_runtime.capabilities.transport.program_answer import Answer

if TYPE_CHECKING:
    from pulp_runtime._net.exchange import Request
    from pulp_runtime.capabilities.transport.program_answer import Wire
    from pulp_runtime.ext import CellRef

JSON_BYTES: Final = 1024 * 1024
"""Longest `/response/json`. Past it `EFBIG`; longer answers are streamed."""
HEADER_FILES: Final = 64
"""Most files in `/response/headers`. Past it `ENOSPC`."""
STATUS_BYTES: Final = 256
_QUOTED_BYTES: Final = 200


class Reply:
    """The answer to one request, as far as a program has said it. Belongs to the program's thread.

    Args:
        cell: whose program it is.
        number: of the request.
        wire: of the host.
        request: what is answered.

    Attributes:
        mode: `txt`, `json`, `files`, `cgi`; "" while nothing is written.
        answer: where it goes.
        half: the program was ended while it wrote.
        frozen: the head is decided: status and headers cannot be changed any more.
        status: what was written to the file of that name.
        headers: what was written to files in the folder of that name.
        ends: called when a file that is the end of an answer was closed; for functions their own end is that.
    """

    __slots__ = (
        "_cell",
        "_json",
        "_number",
        "_text",
        "_wire",
        "answer",
        "ends",
        "frozen",
        "half",
        "headers",
        "mode",
        "status",
    )

    def __init__(self, cell: CellRef, number: int, wire: Wire, request: Request) -> None:
        self._cell: Final = cell
        self._number: Final = number
        self._wire: Final = wire
        self.answer: Final = Answer(wire, request)
        self.mode = ""
        self.half = self.frozen = False
        self.status = b""
        self.headers: Final[dict[str, bytes]] = {}
        self.ends: Callable[[], None] | None = None
        self._text = b""  # of a head that is not complete
        self._json: list[bytes] = []

    def check(self, mode: str, *, head: bool = False) -> None:
        """Raise `EBUSY` if the response is being written in another way, or its head, which is wanted, is decided."""
        if self.mode and self.mode != mode:
            raise OSError(errno.EBUSY, f"the response is being written by {self.mode}")
        if head and self.frozen:
            raise OSError(errno.EBUSY, "the head is sent with the first byte of the body")

    def claim(self, mode: str, *, head: bool = False) -> None:
        """Decide on a way of writing; see `check`, and `EPIPE` when nobody will take it."""
        self.check(mode, head=head)
        if self.answer.over:
            raise BrokenPipeError(errno.EPIPE, "the client is gone, or answered")
        self.mode = mode

    # What is written --------------------------------------------------------------------------------------------

    def write_body(self, data: bytes) -> int:
        """Write to `body`."""
        self.claim("files")
        self._freeze()
        return self.answer.write(data)

    def write_text(self, data: bytes) -> int:
        """Write to `txt`; the first complete header block begins the answer."""
        self.claim("txt")
        if self.frozen:
            return self.answer.write(data)
        before = len(self._text)
        text = self._text + data
        end = end_of_head(text, max(0, before - 3))
        if end is None:
            if len(text) > HEAD_BYTES:
                raise self.fail(Malformed("no end of the header block in 64 KiB", text))
            self._text = text
            return len(data)
        try:
            self.begin(parse_response_head(text[: end.start()]))
        except Malformed as error:
            raise self.fail(error) from None
        self._text = b""
        rest = text[end.end() :]
        return end.end() - before + (self.answer.write(rest) if rest else 0)

    def write_json(self, data: bytes) -> int:
        """Write to `json`, which is read when it is closed."""
        self.claim("json", head=True)
        if sum(map(len, self._json)) + len(data) > JSON_BYTES:
            raise OSError(errno.EFBIG, f"a response in JSON has at most {JSON_BYTES} bytes")
        if self._json and len(self._json[-1]) < HEAD_BYTES:  # a library that writes byte by byte
            self._json[-1] += data
        else:
            self._json.append(data)
        return len(data)

    def close_json(self) -> None:
        """Send what `json` says."""
        if self.mode != "json" or self.frozen:
            return
        try:
            said = parse_response_json(b"".join(self._json))
            self._json.clear()
            self.frozen = True
            self.answer.complete(self._fields(Head(said.status, said.pairs)), said.body)
        except Malformed as error:
            raise self.fail(error) from None

    def begin(self, head: Head) -> None:
        """Decide the head."""
        self.answer.head(self._fields(head))
        self.frozen = True

    def _freeze(self) -> None:
        """Decide the head of an answer in files."""
        if self.frozen:
            return
        try:
            status = parse_status(text_of(self.status)) if self.status.strip() else 200
            pairs = [pair for name, values in self.headers.items() for pair in header_lines(name, values)]
            self.begin(Head(status, pairs))
        except Malformed as error:
            raise self.fail(error) from None

    def _fields(self, head: Head) -> RenderedFields:
        headers: dict[str, str] = {}
        cookies = []
        for name, value in head.pairs:
            key = name.lower()
            if key == "set-cookie":
                cookies.append(value)
            else:
                headers[key] = f"{headers[key]}, {value}" if key in headers else value
        try:
            return self._wire.head(head.status, headers, tuple(cookies))
        except ResponseInvalid as error:
            raise Malformed(str(error), "") from None

    # How it ends ------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """End the answer behind what was written."""
        if self.answer.over:
            return
        try:
            if self.mode == "json":
                self.close_json()
            elif self.mode == "files":
                self._freeze()
            elif not self.frozen:
                raise self.fail(Malformed("no end of the header block", self._text))
        except OSError:
            return  # told
        if not self.answer.finish():
            self.fail(Malformed("the body is shorter than its Content-Length", ""))

    def end_nothing(self) -> None:
        """Answer 204: the program ended well, and wrote nothing."""
        self.answer.complete(self._wire.head(204, {}, ()), b"")

    def refuse(self, status: int, text: str) -> None:
        """Answer with an error, or break off what has begun."""
        self.answer.refuse(status, f"request {self._number}: {text}")

    def fail(self, error: Malformed) -> OSError:
        """Answer 502, tell the operator why; return what the program is told."""
        part = ascii(error.part[:_QUOTED_BYTES])[1:]
        self._cell.log.warning("response refused", request=self._number, reason=error.reason, part=part)
        self.refuse(502, "malformed response")
        return OSError(errno.EINVAL, error.reason)


def header_lines(name: str, values: bytes) -> Pairs:
    """Return the header lines that the file of one name stands for."""
    return [check_field(name, text_of(line).strip(" \t")) for line in values.removesuffix(b"\n").split(b"\n")]
