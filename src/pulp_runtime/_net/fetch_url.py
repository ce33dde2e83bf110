"""URLs that cells ask for: read once, strictly, so that no two readers can find two hosts in one.

    scheme://host[:port][/path][?query][#fragment]

What is refused here is what lets a URL mean one host to a check and another to a connection: user information, a
backslash, controls, an escaped host, a number that some resolvers take for an address (`0x7f.1`,
`2130706433`, `127.1`), an IPv6 zone. What is left needs no second opinion: `Url.host` is what is looked up, checked,
dialled, put into `Host` and compared with the certificate.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote, urljoin

from pulp_runtime.errors import PulpError

HTTP: Final[Mapping[str, int]] = {"http": 80, "https": 443}
WEBSOCKET: Final[Mapping[str, int]] = {"ws": 80, "wss": 443}
URL_BYTES: Final = 16_384
"""Longest URL, in characters."""
HOST_BYTES: Final = 253
"""Longest name (RFC 1035 §2.3.4, without the final dot)."""

_SECURE: Final = frozenset({"https", "wss"})
_parts: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL).fullmatch
_control: Final = re.compile(r"[\x00-\x1f\x7f]").search
_name: Final = re.compile(r"(?!-)[A-Za-z0-9_\-]{1,63}(?:\.[A-Za-z0-9_\-]{1,63})*\.?").fullmatch
_number: Final = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+").fullmatch
_port: Final = re.compile(r"[0-9]{1,5}").fullmatch
_deviant: Final = re.compile("[\u00df\u03c2\u200c\u200d]").search
"""The four characters that the two standards for international names turn into different hosts (UTS 46 §7)."""

_PATH_SAFE: Final = "/%:@!$&'()*+,;=~|[]"
_QUERY_SAFE: Final = _PATH_SAFE + '?`{}"<>^'


class UrlInvalid(PulpError):
    """A URL that is not fetched; the text says why and holds nothing of the URL but its scheme, host or port."""


class Url(NamedTuple):
    """Where a request goes.

    Attributes:
        scheme: lower case.
        host: a name in lower case, or an address in its one canonical spelling, IPv6 without brackets.
        port: 1..65535.
        target: path and query as they are sent, visible ASCII, beginning with `/`.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def secure(self) -> bool:
        """Whether it is spoken over TLS."""
        return self.scheme in _SECURE

    @property
    def authority(self) -> str:
        """What the `Host` header says: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = HTTP.get(self.scheme) or WEBSOCKET[self.scheme]
        return host if self.port == usual else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port: as much of it as may stand in a log."""
        return f"{self.scheme}://{self.authority}"


def parse_url(text: str, schemes: Mapping[str, int] = HTTP) -> Url:
    """Read an absolute URL.

    Args:
        text: as the cell, or a redirect, gives it.
        schemes: those allowed, with their ports.

    Raises:
        UrlInvalid: it is not one that is fetched.
    """
    if len(text) > URL_BYTES:
        raise UrlInvalid(f"URL of {len(text):,} characters; the most is {URL_BYTES:,}")
    if _control(text):
        raise UrlInvalid("URL holds a control character; escape it")
    parts = _parts(text)
    if parts is None:
        raise UrlInvalid(f"URL is not absolute: it must begin with {' or '.join(f'{name}://' for name in schemes)}")
    scheme, authority, path, query = parts[1].lower(), parts[2], parts[3], parts[4] or ""
    if scheme not in schemes:
        raise UrlInvalid(f"scheme {scheme[:32]!r} is not one of {', '.join(schemes)}")
    if "\\" in authority or "\\" in path:
        raise UrlInvalid("URL holds a backslash, which some read as a slash")
    if "@" in authority:
        raise UrlInvalid("URL holds user information; send an Authorization header instead")
    host, port = _split(authority)
    target = quote(path or "/", safe=_PATH_SAFE) + quote(query, safe=_QUERY_SAFE)
    return Url(scheme, _host(host), _port_number(port, schemes[scheme]), target)


def join_url(base: Url, location: str) -> Url:
    """Return where a redirect leads.

    Raises:
        UrlInvalid: nowhere that is fetched.
    """
    if len(location) > URL_BYTES or _control(location) or "\\" in location.partition("?")[0]:
        raise UrlInvalid("redirect to a URL that is too long, or holds a control character or a backslash")
    return parse_url(urljoin(f"{base.origin}{base.target}", location))


def canonical_host(host: str) -> str:
    """Return a host as `Url.host` has it; an IPv6 address may be given bare.

    Raises:
        UrlInvalid: it is no host.
    """
    return _address(host) if ":" in host and not host.startswith("[") else _host(host)


def _split(authority: str) -> tuple[str, str]:
    """Return host, IPv6 in brackets, and the digits of the port."""
    if authority.startswith("["):
        host, bracket, rest = authority.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise UrlInvalid("host: an IPv6 address stands in brackets, and only a port may follow")
        return host + bracket, rest[1:]
    host, _, port = authority.partition(":")
    return host, port


def _port_number(digits: str, usual: int) -> int:
    if not digits:
        return usual
    if _port(digits) is None or not 0 < int(digits) <= 0xFFFF:
        raise UrlInvalid(f"port {digits[:8]!r} is not in 1..65535")
    return int(digits)


def _host(host: str) -> str:
    if not host:
        raise UrlInvalid("URL has no host")
    if host.startswith("[") and host.endswith("]"):
        return _address(host[1:-1])
    if not host.isascii():
        host = _to_ascii(host)
    if _name(host) is None or len(host.rstrip(".")) > HOST_BYTES:
        raise UrlInvalid(f"host {host[:80]!r} is not a name of letters, digits, '-', '_' and dots, nor an address")
    host = host.lower()
    if _number(host.rstrip(".").rpartition(".")[2]):
        return _ipv4(host)
    return host


def _ipv4(host: str) -> str:
    """Return an IPv4 address; four decimal numbers without leading zeros are the only way to write one."""
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise UrlInvalid(f"host {host[:80]!r} ends in a number and is no address of the form 192.0.2.1") from None


def _address(text: str) -> str:
    """Return an IPv6 address in its canonical form; a zone (`%eth0`) is none of a cell's business."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise UrlInvalid(f"host [{text[:80]}] is no IPv6 address") from None
    if address.scope_id is not None:
        raise UrlInvalid(f"host [{text[:80]}] has a zone")
    return str(address)


def _to_ascii(host: str) -> str:
    """Return an international name in its `xn--` form; dots of other scripts become dots, and are seen as such."""
    if len(host) > HOST_BYTES or _deviant(host):
        raise UrlInvalid("host is an international name that two standards read differently; write its xn-- form")
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise UrlInvalid("host is not a valid international name") from None
