"""Say something on many WebSockets, hear it again, say it again: `websocket_load port connections seconds`.

Frames are made once, sockets are read with epoll: what it costs to play the clients is the same for every server. There
is one message on its way for each connection. Prints messages a second and latencies in milliseconds as JSON.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import sys
import time

WORDS = b"thirty-two bytes of nothing much"
MASK = b"\x11\x22\x33\x44"
SAID = bytes((0x82, 0x80 | len(WORDS))) + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(WORDS))
HEARD = bytes((0x82, len(WORDS))) + WORDS
SHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PATIENCE_SECONDS = 10.0


def connected(port: int) -> socket.socket:
    """Return a socket behind its handshake; it must be answered 101, and a message with the same."""
    client = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(SHAKE % port)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    if not head.startswith(b"HTTP/1.1 101 "):
        raise SystemExit(f"refused: {head!r}")
    client.sendall(SAID)
    if client.recv(1000) != HEARD:
        raise SystemExit("it says something else")
    client.setblocking(False)
    return client


def main() -> None:
    """Make the load, and print what was seen."""
    port, count, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients = {client.fileno(): client for client in (connected(port) for _ in range(count))}
    poll, now = select.epoll(), time.perf_counter
    took: list[float] = []
    began = now()
    end = began + seconds
    said = {}
    for number, client in clients.items():
        poll.register(number, select.EPOLLIN)
        said[number] = now()
        client.send(SAID)
    while now() < end:
        for number, _what in poll.poll(1.0, 256):
            client = clients[number]
            if client.recv(1000) != HEARD:
                raise SystemExit("it says something else")
            then = now()
            took.append(then - said[number])
            said[number] = then
            client.send(SAID)
    spent = now() - began
    took.sort()
    print(
        json.dumps(
            {
                "messages": len(took),
                "messages_per_second": len(took) / spent,
                "p50_ms": took[len(took) // 2] * 1e3,
                "p99_ms": took[int(len(took) * 0.99)] * 1e3,
            }
        )
    )


if __name__ == "__main__":
    main()
