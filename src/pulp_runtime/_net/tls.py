"""What a listener proves itself with: a certificate and its key, which may be exchanged while it serves.

Every connection takes the context of the moment it came in. `reload` makes a new one and puts it in the old one's
place when, and only when, it is good; connections that are open keep theirs.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Final

from pulp_runtime.errors import PulpError

HTTP2: Final = "h2"
PROTOCOLS: Final = (HTTP2, "http/1.1")
"""What is offered to clients that ask (ALPN, RFC 7301); the first that a client knows is spoken."""

#: Of TLS 1.2: forward secrecy and authenticated encryption only, so that none is among those HTTP/2 prohibits
#: (RFC 9113 §9.2.2). TLS 1.3 has no others.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

_certificate: Final = re.compile(b"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----").search
_key: Final = re.compile(b"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----").search
_locked: Final = re.compile(b"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED", re.MULTILINE).search


class CertificateInvalid(PulpError):
    """A certificate, or its key, cannot be used; the message names the file and says what to do."""


class Certificate:
    """A certificate chain and its private key, in PEM files.

    Args:
        chain: the server's certificate first, then those that lead to the authority.
        key: may be the same file.

    Attributes:
        context: for the next connection; another object after each `reload`.

    Raises:
        CertificateInvalid: they cannot be used.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self.chain: Final = chain
        self.key: Final = key
        self.context = _context(chain, key)

    def reload(self) -> None:
        """Read both files again. On the loop's thread.

        Raises:
            CertificateInvalid: they cannot be used; nothing has changed.
        """
        self.context = _context(self.chain, self.key)


def _context(chain: Path, key: Path) -> ssl.SSLContext:
    """Return what new connections are encrypted with."""
    if not _certificate(_read("certificate", chain)):
        raise CertificateInvalid(f"certificate {chain} holds no certificate in PEM form (BEGIN CERTIFICATE)")
    text = _read("key", key)
    if _locked(text):
        raise CertificateInvalid(f"key {key} has a passphrase; write it without one (openssl pkey -in … -out …)")
    if not _key(text):
        raise CertificateInvalid(f"key {key} holds no private key in PEM form (BEGIN PRIVATE KEY)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Clients could make the server pay for key exchanges again and again; HTTP/2 prohibits it anyway.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(list(PROTOCOLS))
    try:
        context.load_cert_chain(chain, key, password="")  # nobody is asked on the terminal
    except ssl.SSLError as error:
        why = (error.reason or str(error)).replace("_", " ").lower()
        if error.reason == "KEY_VALUES_MISMATCH":
            why = "the key belongs to another certificate"
        raise CertificateInvalid(f"certificate {chain} with key {key} cannot be used: {why}") from None
    except OSError as error:
        raise CertificateInvalid(f"certificate {chain} with key {key} cannot be read: {error.strerror}") from None
    return context


def _read(what: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateInvalid(f"{what} {path} cannot be read: {error.strerror}") from None
