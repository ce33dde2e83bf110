"""Open many WebSockets, be silent, then say one word on each and hear it: `crowd.py port number pid`."""

from __future__ import annotations

import json
import re
import resource
import socket
import sys
from pathlib import Path

SHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: a\r\nUser-Agent: somebody's browser, with a name of a usual length/1.0\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)
WORD = b"\x81\x85\0\0\0\0hello"
SECONDS = 30.0


def connected(port: int) -> socket.socket:
    """Return a socket behind its handshake."""
    client = socket.create_connection(("127.0.0.1", port), SECONDS)
    client.sendall(SHAKE)
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(4096)
    assert head.startswith(b"HTTP/1.1 101 "), head
    return client


def main() -> None:
    """Do it, and print what was found as JSON."""
    port, number, pid = map(int, sys.argv[1:])
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients = [connected(port) for _ in range(number)]
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    answered = 0
    for first in range(0, number, 1_000):
        some = clients[first : first + 1_000]
        for client in some:
            client.sendall(WORD)
        answered += sum(client.recv(100) == b"\x81\x05hello" for client in some)
    sys.stdout.write(json.dumps({"answered": answered, "resident": int(found[1]) * 1024}))


if __name__ == "__main__":
    main()
