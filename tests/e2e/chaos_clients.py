"""Whoever speaks to the host during the chaos run. Every client is a thread with a random generator of its own.

What was acknowledged is remembered, and `check_…` asks for it when the storm is over.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable

PATIENCE = 30.0
"""Seconds after which a request that a client waits for properly counts as lost."""
KINDS = {"ledger": ("files", "rows", "keys"), "tight": ("fales", "raws", "kays")}
#: How a connection ends when the host is killed or the other side has had enough.
BROKEN = (OSError, http.client.HTTPException)


class Storm:
    """What all clients share.

    Attributes:
        port: of the listener; it stays the same when the host is started again.
        over: set when it is time to stop.
        down: set while there is no host.
        full: set while nothing can be written to the disk.
        deaths: how often the host was killed.
        counts: what was done and what came of it, by words.
        problems: what must never happen, with details.
    """

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.seed = seed
        self.over = threading.Event()
        self.down = threading.Event()
        self.full = threading.Event()
        self.deaths = 0
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._lock = threading.Lock()

    def count(self, *words: object) -> None:
        with self._lock:
            self.counts[" ".join(map(str, words))] += 1

    def problem(self, text: str) -> None:
        with self._lock:
            self.problems.append(text)

    def pause(self, seconds: float) -> None:
        self.over.wait(seconds)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)


class Client(threading.Thread):
    """Does its work again and again. A connection that breaks is opened anew; one kept too long is a problem."""

    kind = "client"

    def __init__(self, storm: Storm, number: int = 0) -> None:
        super().__init__(name=f"{self.kind}-{number}", daemon=True)
        self.storm = storm
        self.number = number
        self.random = random.Random(f"{storm.seed} {self.name}")
        self.rests = threading.Event()
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        while not self.storm.over.is_set():
            if self.rests.is_set():
                self.close()
                self.storm.pause(0.1)
                continue
            deaths = self.storm.deaths
            try:
                self.work()
            except TimeoutError:
                self.close()
                if deaths == self.storm.deaths and not self.storm.down.is_set():
                    self.storm.problem(f"{self.name}: no answer for {PATIENCE:g} s")
            except BROKEN as error:
                self.close()
                self.storm.count(self.kind, type(error).__name__)
                self.storm.pause(0.05)
            except Exception as error:  # noqa: BLE001  # the test tells
                self.close()
                self.storm.problem(f"{self.name}: {error!r}")
                self.storm.pause(0.05)
        self.close()

    def work(self) -> None:
        raise NotImplementedError

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send a request on the connection that is kept; count its status."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.storm.port, timeout=PATIENCE)
        self._connection.request(method, path, body)
        answer = self._connection.getresponse()
        data = answer.read()
        self.storm.count(self.kind, answer.status)
        return answer.status, data

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def nap(self, most: float) -> None:
        self.storm.pause(self.random.uniform(0, most))


class Anchored(Client):
    """Asks the cells that nobody touches. While there is a host, each of them answers, and only its own."""

    kind = "anchored"
    slowest = 0.0

    def work(self) -> None:
        number = self.random.randrange(12)
        deaths = self.storm.deaths
        began = time.monotonic()
        try:
            answer = self.ask("GET", f"/n/{number:04}")
        except TimeoutError:
            raise
        except BROKEN as error:
            if deaths == self.storm.deaths and not self.storm.down.is_set():
                self.storm.problem(f"anchor {number}: {error!r}")
            raise
        Anchored.slowest = max(self.slowest, time.monotonic() - began)
        if answer != (200, b"%04d" % number) and deaths == self.storm.deaths and not self.storm.down.is_set():
            self.storm.problem(f"anchor {number}: {answer}")
        self.nap(0.02)


class Writer(Client):
    """Overwrites a few keys of its own in files, rows and keys; a larger number is newer.

    Attributes:
        acknowledged: the last number that was answered 204, by path.
        asked: the last number that was sent, by path.
    """

    kind = "writer"
    cell = "ledger"
    sizes = (16, 4096, 60_000)

    def __init__(self, storm: Storm, number: int = 0) -> None:
        super().__init__(storm, number)
        self.acknowledged: dict[str, int] = {}
        self.asked: dict[str, int] = {}

    def path(self) -> str:
        return f"/{self.random.choice(KINDS[self.cell])}/w{self.number}-{self.random.choice('abc')}"

    def work(self) -> None:
        path = self.path()
        number = self.asked.get(path, 0) + 1
        self.asked[path] = number
        status, _ = self.ask("PUT", path, b"%015d\n" % number * (self.random.choice(self.sizes) // 16))
        if status == 204:
            self.acknowledged[path] = number
        self.nap(0.02)

    def check(self) -> None:
        """Read everything back."""
        for path, last in self.asked.items():
            status, value = self.ask("GET", path)
            least = self.acknowledged.get(path, 0)
            if status == 404 and not least:
                continue
            lines = {value[at : at + 16] for at in range(0, len(value), 16)}
            if status != 200 or len(lines) != 1 or len(value) % 16 or not least <= int(value[:16]) <= last:
                self.storm.problem(
                    f"{path}: {status} {value[:16]!r}, of {len(lines)} kinds; {least} to {last} expected"
                )


class Filler(Writer):
    """Writes new keys into a cell with a disk quota of 1 MiB, so that most of it is refused."""

    kind = "filler"
    cell = "tight"
    sizes = (16, 30_000, 100_000)

    def path(self) -> str:
        return f"/{self.random.choice(KINDS[self.cell])}/f{self.random.randrange(60)}"


class Payer(Client):
    """Moves one cent at a time from one account of its own to another; now and then between two new ones."""

    kind = "payer"
    moves = 2_000

    def __init__(self, storm: Storm, number: int = 0) -> None:
        super().__init__(storm, number)
        self._acknowledged: Counter[int] = Counter()
        self._asked: Counter[int] = Counter()
        self._pair = 0
        self._open = 0

    def _names(self, pair: int) -> tuple[str, str]:
        return f"from{self.number}-{pair}", f"to{self.number}-{pair}"

    def work(self) -> None:
        source, target = self._names(self._pair)
        if self._open < 2:
            name = (source, target)[self._open]
            self.ask("POST", f"/bank/accounts/{name}")
            self._open += name in self.accounts()
            self.nap(0.1)
            return
        self._asked[self._pair] += 1
        status, _ = self.ask("POST", f"/bank/transfer/{source}/{target}/1")
        self._acknowledged[self._pair] += status == 204
        if self._asked[self._pair] == self.moves:
            self._pair, self._open = self._pair + 1, 0
        self.nap(0.03)

    def accounts(self) -> dict[str, int]:
        status, body = self.ask("GET", "/bank/accounts")
        return {one["name"]: one["cents"] for one in json.loads(body)} if status == 200 else {}

    def check(self) -> None:
        accounts = self.accounts()
        for pair, asked in self._asked.items():
            source, target = (accounts.get(name, 0) for name in self._names(pair))
            least = self._acknowledged[pair]
            if source + target != 20_000 or not least <= target - 10_000 <= asked:
                self.storm.problem(f"bank: {source} + {target}, {least} to {asked} cents were moved")


class Signer(Client):
    """Signs the guestbook, fewer times than its page has lines."""

    kind = "signer"
    most = 90

    def __init__(self, storm: Storm, number: int = 0) -> None:
        super().__init__(storm, number)
        self.every = 0.2
        self.acknowledged: list[str] = []
        self.asked = 0

    def work(self) -> None:
        if self.asked < self.most:
            self.asked += 1
            line = f"line-{self.asked:03}-of-{self.storm.seed}"
            if self.ask("POST", "/guest/book", f"name=me&line={line}".encode())[0] == 303:
                self.acknowledged.append(line)
        self.storm.pause(self.every)
        self.ask("GET", "/guest/book")

    def check(self) -> None:
        status, page = self.ask("GET", "/guest/book")
        lost = [line for line in self.acknowledged if line.encode() not in page]
        if status != 200 or lost:
            self.storm.problem(
                f"guestbook: {status}, {len(lost)} of {len(self.acknowledged)} lines are gone: {lost[:3]}"
            )


class Counting(Client):
    """Has the hits of a page counted."""

    kind = "counting"

    def __init__(self, storm: Storm, number: int = 0) -> None:
        super().__init__(storm, number)
        self.last = self.asked = self.acknowledged = 0

    def work(self) -> None:
        self.asked += 1
        status, body = self.ask("GET", f"/hits/page{self.number}")
        if status == 200:
            if int(body) <= self.last:
                self.storm.problem(f"hits: {body!r} after {self.last}")
            self.last = int(body)
            self.acknowledged += 1
        self.nap(0.05)

    def check(self) -> None:
        status, body = self.ask("GET", f"/hits/page{self.number}")
        if status != 200 or not self.acknowledged < int(body) <= self.asked + 1 or int(body) <= self.last:
            self.storm.problem(f"hits: {status} {body!r} after {self.last}, {self.acknowledged} of {self.asked}")


class Browsing(Client):
    """Asks whatever there is, guests that trap and spin included."""

    kind = "browsing"

    def work(self) -> None:
        does = self.random.choice(("ok", "ignore", "spin", "trap", "double", "late"))
        lab = f"/{self.random.choice('abcdefgh')}/{does}"
        method, path, body = self.random.choice(
            [
                ("GET", lab, None),
                ("GET", lab, None),
                (
                    "GET",
                    f"/{self.random.choice('abcdef')}/{self.random.choice(('header', 'no', 'framing', 'quote'))}",
                    None,
                ),
                ("GET", "/echo/hello", None),
                ("POST", "/echo", self.random.randbytes(self.random.choice((0, 10, 100_000)))),
                ("GET", "/gogo/hello", None),
                ("POST", "/gogo", self.random.randbytes(self.random.choice((0, 10, 100_000)))),
                ("GET", f"/price/tea/{self.random.choice((1, 20, 200))}", None),
                ("GET", "/bank/accounts", None),
                ("POST", f"/visits/v{self.random.randrange(9)}", None),
                ("POST", f"/al/rms/{self.random.randrange(500)}", None),
                ("POST", "/x/unt", None),
                ("GET", "/", None),
                ("GET", f"/nowhere/{self.random.random()}", None),
            ]
        )
        self.ask(method, path, body)
        if not self.random.randrange(20):
            self.close()
        self.nap(0.02)


class Flooding(Client):
    """Sends hundreds of requests at once without waiting, and reads what comes."""

    kind = "flooding"

    def work(self) -> None:
        path = self.random.choice(("/echo/x", "/gogo/x", "/a/ok", "/b/late", "/visits/x", "/hits/flood", "/price/tea"))
        burst = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() * self.random.choice((20, 200))
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(self.storm.connect()) for _ in range(self.random.choice((1, 8)))]
            for client in clients:
                client.settimeout(2.0)
                client.sendall(burst)
            for client in clients:
                with contextlib.suppress(TimeoutError):
                    for _ in range(self.random.randrange(20)):
                        self.storm.count(self.kind, "answers" if client.recv(1 << 16) else "end")
        self.nap(0.3)


class Dawdling(Client):
    """Keeps connections that send a byte now and then, and some that never read."""

    kind = "dawdling"

    def __init__(self, storm: Storm, number: int = 0) -> None:
        super().__init__(storm, number)
        self._open: list[tuple[socket.socket, bytes]] = []

    def work(self) -> None:
        if len(self._open) < 40:
            head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n"
            first, rest = self.random.choice(
                [
                    (b"GET /echo/x HT", b"TP/1.1\r\nHost: somebody\r\nX-Slow: " + b"a" * 500),
                    (head, bytes(500)),
                    (head + bytes(500_000), b""),
                    (b"GET /n/0000 HTTP/1.1\r\nHost: a\r\n\r\n" * 500, b""),
                    (b"", b"\x16\x03\x01" * 20),
                ]
            )
            client = self.storm.connect()
            client.settimeout(1.0)
            self._open.append((client, rest))
            self.storm.count(self.kind, "connections")
            with contextlib.suppress(TimeoutError):
                client.sendall(first)
        at = self.random.randrange(len(self._open))
        client, rest = self._open[at]
        try:
            client.sendall(rest[:1])
            self._open[at] = (client, rest[1:])
            done = not rest or not self.random.randrange(30)
        except OSError:
            done = True
        if done and self.random.randrange(2):
            leave(client, self.random)
            del self._open[at]
        self.nap(0.02)

    def close(self) -> None:
        for client, _ in self._open:
            client.close()
        self._open.clear()


class Leaving(Client):
    """Asks and is gone before the answer comes, in the middle of a request or after it."""

    kind = "leaving"

    def work(self) -> None:
        body = self.random.randbytes(50_000)
        request = self.random.choice(
            [
                b"POST /gogo HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + body,
                b"PUT /files/left HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + body,
                b"POST /guest/book HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + body,
                b"GET /hits/left HTTP/1.1\r\nHost: a\r\n\r\n",
                b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n",
                b"GET /c/spin HTTP/1.1\r\nHost: a\r\n\r\n",
            ]
        )
        client = self.storm.connect()
        try:
            client.sendall(request[: self.random.choice((len(request), self.random.randrange(len(request))))])
            self.nap(0.01)
        finally:
            leave(client, self.random)
        self.storm.count(self.kind, "connections")
        self.nap(0.05)


class Talking(Client):
    """Opens WebSockets to three cells, talks, and leaves with a close frame, without one, or with a reset."""

    kind = "talking"

    def work(self) -> None:
        path = self.random.choice(("/echo", "/chat?name=me", "/room"))
        with self.storm.connect() as client:
            client.settimeout(2.0)
            client.sendall(
                f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            with contextlib.suppress(TimeoutError):
                status = client.recv(1 << 16)[9:12].decode() or "nothing"
                self.storm.count(self.kind, path, status)
                for _ in range(self.random.randrange(30) if status == "101" else 0):
                    text = self.random.randbytes(self.random.choice((1, 60, 100))).hex()[:120].encode()
                    client.sendall(struct.pack(">BBI", 0x81, 0x80 | len(text), 0) + text)
                    if self.random.randrange(3):
                        self.storm.count(self.kind, path, "heard" if client.recv(1 << 16) else "end")
            if self.random.randrange(2):
                client.sendall(struct.pack(">BBIH", 0x88, 0x82, 0, 1000))
            leave(client, self.random)
        self.nap(0.1)


class Listening(Client):
    """Opens event streams, reads some, and leaves."""

    kind = "listening"

    def work(self) -> None:
        path = self.random.choice(("/events", "/bank/events"))
        with self.storm.connect() as client:
            client.settimeout(0.3)
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n".encode())
            with contextlib.suppress(TimeoutError):
                status = client.recv(1 << 16)[9:12].decode() or "nothing"
                self.storm.count(self.kind, path, status)
                for _ in range(self.random.randrange(20) if status == "200" else 0):
                    self.storm.count(self.kind, path, "heard" if client.recv(1 << 16) else "end")
            leave(client, self.random)
        self.nap(0.1)


def leave(client: socket.socket, rng: random.Random) -> None:
    """Close a connection, in one case of two with a reset."""
    if rng.randrange(2):
        with contextlib.suppress(OSError):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


#: Who takes part, and how many of each.
CROWD: dict[Callable[..., Client], int] = {
    Anchored: 1,
    Writer: 2,
    Filler: 1,
    Payer: 1,
    Signer: 1,
    Counting: 1,
    Browsing: 3,
    Flooding: 1,
    Dawdling: 1,
    Leaving: 1,
    Talking: 2,
    Listening: 1,
}
