"""An HTTP/1.1 request on its way out: checked, rendered, and what becomes of it at a redirect.

Nothing a cell says can end a line or a head early: methods and names are tokens, values hold no control characters,
and whatever frames the message is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from pulp_runtime._net.fetch_decode import ACCEPTED
from pulp_runtime._net.fetch_url import Url, join_url, parse_url
from pulp_runtime._net.fields import canonical_name, forbidden_in_value, is_token
from pulp_runtime.errors import PulpError

METHOD_BYTES: Final = 32
FIELDS: Final = 200
FIELDS_BYTES: Final = 128 * 1024
USER_AGENT: Final = "Go-http-client/1.1"
"""What existing cells' servers see, unless a cell says who it is (spec/capabilities §3.2)."""

_OURS: Final = frozenset({
    "Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Proxy-Connection", "Te", "Trailer",
    "Transfer-Encoding", "Upgrade",
})  # fmt: skip
"""Fields that frame the message or concern this connection: what a cell says in them has no effect."""
_SECRETS: Final = frozenset(
    {"Authorization", "Cookie", "Cookie2", "Proxy-Authenticate", "Proxy-Authorization", "Www-Authenticate"}
)
"""Fields that are for the host a cell named, and not for where that host sends us."""
_OF_BODY: Final = frozenset({"Content-Encoding", "Content-Language", "Content-Location", "Content-Type"})
_BODY_EXPECTED: Final = frozenset({"POST", "PUT", "PATCH"})
_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

TO_GET: Final = frozenset({301, 302, 303})
SAME_METHOD: Final = frozenset({307, 308})


class RequestInvalid(PulpError):
    """A request that is not sent; the text says why and holds no value of it."""


class FetchRequest(NamedTuple):
    """One request.

    Attributes:
        method: upper case.
        url: where to.
        fields: canonical name to value, without those that are the host's.
        body: may be empty.
        decode: the cell did not say which codings it accepts, so it gets the answer decoded.
        origin: the host that the secrets in `fields` are for.
    """

    method: str
    url: Url
    fields: Mapping[str, str]
    body: bytes
    decode: bool
    origin: Url

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again when nobody knows if it has arrived."""
        return self.method in _REPEATABLE

    def render(self) -> tuple[bytes, bytes]:
        """Return the head and the body as they are sent."""
        url = self.url
        lines = [f"{self.method} {url.target} HTTP/1.1", f"Host: {url.authority}"]
        lines += [f"{name}: {value}" for name, value in self.fields.items() if value or name != "User-Agent"]
        if "User-Agent" not in self.fields:
            lines.append(f"User-Agent: {USER_AGENT}")
        if self.body or self.method in _BODY_EXPECTED:
            lines.append(f"Content-Length: {len(self.body)}")
        if self.decode:
            lines.append(f"Accept-Encoding: {ACCEPTED}")
        return "\r\n".join((*lines, "", "")).encode(), self.body

    def redirected(self, status: int, location: str) -> FetchRequest | None:
        """Return the request that a response asks for, None when it is the answer itself.

        301, 302 and 303 make it a GET without a body (a HEAD stays one), 307 and 308 leave it as it is. Secrets stay
        behind when it leaves the host and its subdomains, or TLS; they do not come back.

        Raises:
            UrlInvalid: it leads nowhere that is fetched.
        """
        if not location or status not in TO_GET | SAME_METHOD:
            return None
        url = join_url(self.url, location)
        dropped = frozenset[str]() if _may_know_secrets(self.origin, url) else _SECRETS
        method, body = self.method, self.body
        if status in TO_GET:
            method = method if method == "HEAD" else "GET"
            body = b""
            dropped |= _OF_BODY
        fields = {name: value for name, value in self.fields.items() if name not in dropped}
        return self._replace(method=method, url=url, fields=fields, body=body)


def _may_know_secrets(origin: Url, url: Url) -> bool:
    same = url.host == origin.host or (":" not in url.host and url.host.endswith(f".{origin.host}"))
    return same and (url.secure or not origin.secure)


def prepare(method: str, url: str, headers: Mapping[str, str], body: bytes) -> FetchRequest:
    """Return a request as a cell asks for it.

    Args:
        method: blank is GET; trimmed, upper-cased.
        url: absolute, http or https.
        headers: what is the host's among them is left out.
        body: any bytes.

    Raises:
        RequestInvalid: it would not be one request, or is past a bound.
        UrlInvalid: the URL is not one that is fetched.
    """
    method = method.strip(" \t") or "GET"
    if not is_token(method) or len(method) > METHOD_BYTES or method.upper() == "CONNECT":
        raise RequestInvalid(f"method is not a token of up to {METHOD_BYTES} characters, or is CONNECT")
    method = method.upper()
    target = parse_url(url)
    fields = check_fields(headers)
    decode = "Accept-Encoding" not in fields and "Range" not in fields and method != "HEAD"
    return FetchRequest(method, target, fields, body, decode, target)


def check_fields(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers by canonical name, trimmed, without those that are the host's.

    Raises:
        RequestInvalid: one would break the head, or they are too many.
    """
    fields = {}
    size = 0
    for name, value in headers.items():
        if not is_token(name):
            raise RequestInvalid("a header name is not a token")
        value = value.strip(" \t")
        if forbidden_in_value(value):
            raise RequestInvalid(f"header {name[:80]} holds a control character")
        size += len(name) + len(value) + 4
        canonical = canonical_name(name)
        if canonical not in _OURS:
            fields[canonical] = value
    if len(headers) > FIELDS or size > FIELDS_BYTES:
        raise RequestInvalid(f"more than {FIELDS} headers, or {FIELDS_BYTES:,} bytes of them")
    return fields
