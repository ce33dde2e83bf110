"""What the operator sets for the listeners of a host, under `http`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from pulp_runtime._net.settings import HttpSettings
from pulp_runtime.errors import ExtensionError

if TYPE_CHECKING:
    from pulp_runtime._net.tls import Certificate
    from pulp_runtime.capabilities.transport.access import Access

VARIABLES: Final = {"cert": "HTTP_CERT", "key": "HTTP_KEY"}
"""Environment variables that stand in for settings; an empty one counts as none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """Settings of all listeners, and of the shared one.

    Attributes:
        limits: timeouts and limits.
        cert: certificate chain of the shared listener, a PEM file; "" for no TLS.
        key: its private key.
        http2: speak HTTP/2 without TLS, with clients that know it beforehand. With TLS it is always spoken.
        trusted_proxies: networks whose peers say truly who their client is; then nobody else may. None: a matter of
            the cells.
        proxy_header: where they say it.
        access_log: log a line for every request.
        request_id: give every request an id, in the cell's headers, in the answer and in the log.
    """

    limits: HttpSettings = field(default_factory=HttpSettings)
    cert: str = ""
    key: str = ""
    http2: bool = False
    trusted_proxies: tuple[str, ...] | None = None
    proxy_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    access_log: bool = False
    request_id: bool = False

    def certificate(self) -> Certificate | None:
        """Read the certificate, if there is one.

        Raises:
            CertificateInvalid: it cannot be used.
        """
        if not self.cert:
            return None
        from pulp_runtime._net.tls import Certificate  # not every host has use for it

        return Certificate(Path(self.cert), Path(self.key))

    def access(self) -> Access | None:
        """Return what is done to every request, None for nothing.

        Raises:
            ExtensionError: a trusted proxy is no network.
        """
        if self.trusted_proxies is None and not self.access_log and not self.request_id:
            return None
        from pulp_runtime.capabilities.transport.access import Access  # not every host has use for it

        return Access(self)


def listener_settings(config: Mapping[str, Any]) -> ListenerSettings:
    """Return the operator's settings; what `config` does not name may be in the environment.

    Raises:
        ExtensionError: a setting nobody knows, a value that makes no sense, half a certificate.
    """
    limits = {one.name for one in fields(HttpSettings)}
    own = [one.name for one in fields(ListenerSettings) if one.name != "limits"]
    for name in config:
        if name not in limits and name not in own:
            raise ExtensionError(f"http.{name} is no setting of the listener; there are {', '.join([*own, *limits])}")
    given: dict[str, Any] = {name: value for name, value in config.items() if name in own}
    for name, variable in VARIABLES.items():
        value = given.get(name) or os.environ.get(variable, "").strip()
        given[name] = os.fspath(value) if isinstance(value, Path) else value
    try:
        given["limits"] = msgspec.convert({name: config[name] for name in config if name in limits}, HttpSettings)
        settings = msgspec.convert(given, ListenerSettings)
    except (msgspec.ValidationError, ValueError) as error:
        raise ExtensionError(f"http: {error}") from None
    if bool(settings.cert) != bool(settings.key):
        there, missing = ("cert", "key") if settings.cert else ("key", "cert")
        raise ExtensionError(
            f"http.{missing} (or ${VARIABLES[missing]}) is missing: http.{there} is set; TLS needs both"
        )
    return settings
