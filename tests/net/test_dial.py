"""Lookups, connections and TLS on behalf of cells, and waits that end."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from tests.capabilities.upstream import Peer, Upstream, always, response

from pulp_runtime._net import dial_patience
from pulp_runtime._net.dial import Dialer, Trust
from pulp_runtime._net.dial_names import LOOKUPS_OF_ONE, Names, system_lookup
from pulp_runtime._net.dial_patience import DialFault, OutOfTime, Patience, StepNearItsEnd, before_deadline
from pulp_runtime._net.dial_wire import Wire
from pulp_runtime._net.egress import AllowList, EgressGuard, EgressRefused
from pulp_runtime._net.fetch_url import parse_url

SOON = Patience()
LOCAL = EgressGuard(AllowList(["127.0.0.0/8", "::1/128"]))


def answering(*addresses: str) -> Callable[[str, str, Patience], list[str]]:
    return lambda _owner, _name, _patience: list(addresses)


def dial(
    url: str, *addresses: str, guard: EgressGuard = LOCAL, trust: Trust | None = None, patience: Patience = SOON
) -> Wire:
    return Dialer("cell", guard, answering(*addresses), trust or Trust()).dial(parse_url(url), patience)


def ask(wire: Wire) -> bytes:
    wire.send(b"GET / HTTP/1.1\r\n\r\n", SOON)
    return wire.recv(4096, SOON)


# Patience ---------------------------------------------------------------------------------------------------------


def test_patience_ends_at_its_deadline_and_says_why() -> None:
    patience = Patience(0.0, "no answer")

    with pytest.raises(OutOfTime, match="no answer after 0 s"):
        patience.slice()


def test_patience_ends_with_the_step_and_with_the_cell() -> None:
    with pytest.raises(StepNearItsEnd):
        Patience(5.0, step=lambda: 0.0).slice()
    with pytest.raises(OutOfTime, match="closed"):
        Patience(5.0, gone=lambda: True).slice()
    assert 0 < Patience(step=lambda: 0.03).slice() <= 0.03
    assert Patience().slice() == dial_patience.SLICE_SECONDS
    assert Patience().seconds_left is None
    assert 4 < Patience(5.0).seconds_left <= 5  # type: ignore[operator]


def test_a_part_of_the_work_never_has_longer_than_the_whole() -> None:
    with pytest.raises(OutOfTime, match="whole after 0 s"):
        Patience(0.0, "whole").within(5.0, "part").slice()
    with pytest.raises(OutOfTime, match="part after 0 s"):
        Patience(5.0, "whole").within(0.0, "part").slice()


def test_a_guest_gets_the_last_tenth_of_its_step_back() -> None:
    left = 30.0
    usable = before_deadline(lambda: left)
    assert usable() == 29.5
    left = 0.4
    assert usable() < 0
    left = 1.0
    assert before_deadline(lambda: left)() == pytest.approx(0.9)


# Names ------------------------------------------------------------------------------------------------------------


def test_the_system_knows_localhost() -> None:
    assert set(Names().resolve("cell", "localhost", SOON)) <= {"127.0.0.1", "::1"}
    assert system_lookup("localhost")


def test_a_name_nobody_has_is_a_fault_that_names_it() -> None:
    with pytest.raises(DialFault, match=r"lookup of nobody\.invalid: "):
        Names().resolve("cell", "nobody.invalid", SOON)


@pytest.mark.slow
def test_a_lookup_that_is_never_answered_is_left_behind_and_counted() -> None:
    """The system's call cannot be interrupted; a cell may have four of them unanswered, another cell has its own."""
    gate, asked = threading.Event(), threading.Semaphore(0)

    def stuck(_name: str) -> list[str]:
        asked.release()
        gate.wait(20)
        return ["192.0.2.1"]

    names = Names(stuck)
    began = time.monotonic()
    for _ in range(LOOKUPS_OF_ONE):
        with pytest.raises(OutOfTime):
            names.resolve("cell", "slow.example", Patience(0.05))
        asked.acquire(timeout=20)
    with pytest.raises(DialFault, match="too many lookups"):
        names.resolve("cell", "slow.example", SOON)
    assert time.monotonic() - began < 5
    with pytest.raises(OutOfTime):
        names.resolve("other", "slow.example", Patience(0.05))

    gate.set()
    end = time.monotonic() + 10
    while True:  # the threads end by themselves
        try:
            assert names.resolve("cell", "slow.example", SOON) == ["192.0.2.1"]
            break
        except DialFault:
            assert time.monotonic() < end


# Connections ------------------------------------------------------------------------------------------------------


def test_the_address_that_was_checked_is_the_one_that_is_dialled() -> None:
    """A name that answers differently the second time is never asked a second time."""
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    with Upstream(always(response())) as upstream:
        dialer = Dialer("cell", LOCAL, lambda _owner, _name, _patience: answers.pop(0), Trust())
        wire = dialer.dial(parse_url(f"http://flip.example:{upstream.port}/"), SOON)
        assert b"200 OK" in ask(wire)
        wire.close()

    assert answers == [["10.0.0.1"]]


def test_an_address_is_not_looked_up() -> None:
    def never(_owner: str, _name: str, _patience: Patience) -> list[str]:
        raise AssertionError("looked up")

    with Upstream(always(response())) as upstream:
        wire = Dialer("cell", LOCAL, never, Trust()).dial(parse_url(upstream.url), SOON)
        wire.close()


def test_a_refused_port_is_not_looked_up() -> None:
    asked: list[str] = []

    def resolve(_owner: str, name: str, _patience: Patience) -> list[str]:
        asked.append(name)
        return ["8.8.8.8"]

    with pytest.raises(EgressRefused, match="port"):
        Dialer("cell", LOCAL, resolve, Trust()).dial(parse_url("http://a.example:25/"), SOON)
    assert asked == []


def test_the_next_address_is_tried_when_nobody_listens_at_the_first() -> None:
    with Upstream(always(response())) as upstream:
        wire = dial(f"http://two.example:{upstream.port}/", "::1", "127.0.0.1")
        assert b"200 OK" in ask(wire)
        wire.close()


def test_nobody_listening_is_a_fault() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with pytest.raises(DialFault, match=r"connect to 127\.0\.0\.1: connection refused"):
        dial(f"http://127.0.0.1:{port}/")


@pytest.mark.slow
def test_a_connection_that_does_not_come_about_ends_with_patience() -> None:
    """A listener whose queue is full takes no connection and refuses none."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        held = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            held.append(filler)
        began = time.monotonic()
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        with pytest.raises(OutOfTime):
            held.extend(dial(url, patience=Patience(0.3)).sock for _ in range(3))
        assert time.monotonic() - began < 3
        for sock in held:
            sock.close()


def test_a_broken_connection_is_a_fault_and_not_an_exception_of_the_system() -> None:
    def reset(peer: Peer) -> None:
        peer.read(1)
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.sock.close()

    with Upstream(reset) as upstream:
        wire = dial(upstream.url)
        wire.send(b"x", SOON)
        with pytest.raises(DialFault, match="receive: connection reset"):
            wire.recv(10, SOON)
        wire.close()


def test_an_idle_connection_is_good_while_the_server_is_silent_and_open() -> None:
    go = threading.Event()

    def script(peer: Peer) -> None:
        if peer.number == 1:
            peer.wait_for_end()
        else:
            peer.send(b"unasked" if peer.number == 2 else b"")

    with Upstream(script) as upstream:
        silent = dial(upstream.url)
        assert silent.quiet
        for _ in range(2):
            other = dial(upstream.url)
            other.wait(SOON)
            assert not other.quiet
            other.close()
        silent.close()
        go.set()


def test_a_large_request_and_an_early_answer_do_not_wait_for_each_other() -> None:
    def early(peer: Peer) -> None:
        peer.sock.recv(1000)
        peer.send(b"no")
        peer.wait_for_end()

    with Upstream(early) as upstream:
        wire = dial(upstream.url)
        assert wire.send(bytes(64 << 20), SOON) is False
        assert wire.pending
        assert wire.recv(10, SOON) == b"no"
        wire.close()


# TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trust(authority: trustme.CA, tmp_path: Path) -> Trust:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return Trust(str(tmp_path / "ca.pem"))


Serve = Callable[..., Upstream]


@pytest.fixture
def serve(authority: trustme.CA) -> Iterator[Serve]:
    """Return `serve(*names, by=authority)`: a TLS server for these names."""
    running: list[Upstream] = []

    def serve(*names: str, by: trustme.CA = authority, **options: object) -> Upstream:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        by.issue_cert(*names, **options).configure_cert(context)  # type: ignore[arg-type]
        running.append(Upstream(always(response()), tls=context))
        return running[-1]

    yield serve
    for upstream in running:
        upstream.close()


def test_a_certificate_of_a_trusted_authority_for_this_name_is_good(serve: Serve, trust: Trust) -> None:
    upstream = serve("a.example", "127.0.0.1")
    for url in (f"https://a.example:{upstream.port}/", f"https://a.example.:{upstream.port}/", upstream.url):
        wire = dial(url, "127.0.0.1", trust=trust)
        assert wire.sock.version() in ("TLSv1.2", "TLSv1.3")  # type: ignore[attr-defined]
        assert b"200 OK" in ask(wire)
        wire.close()


def test_threat_35_a_certificate_for_another_name_is_refused(serve: Serve, trust: Trust) -> None:
    upstream = serve("a.example")
    for url in (f"https://b.example:{upstream.port}/", f"https://x.a.example:{upstream.port}/", upstream.url):
        with pytest.raises(DialFault, match=r"TLS: .*mismatch"):
            dial(url, "127.0.0.1", trust=trust)


def test_threat_35_a_certificate_of_an_unknown_authority_is_refused(serve: Serve, trust: Trust) -> None:
    stranger = serve("a.example", by=trustme.CA())

    with pytest.raises(DialFault, match=r"TLS: .*certificate"):
        dial(f"https://a.example:{stranger.port}/", "127.0.0.1", trust=trust)
    with pytest.raises(DialFault, match=r"TLS: .*certificate"):
        dial(f"https://a.example:{serve('a.example').port}/", "127.0.0.1")


def test_threat_35_a_certificate_that_has_expired_is_refused(serve: Serve, trust: Trust) -> None:
    import datetime

    upstream = serve("a.example", not_after=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))

    with pytest.raises(DialFault, match=r"TLS: certificate has expired"):
        dial(f"https://a.example:{upstream.port}/", "127.0.0.1", trust=trust)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_threat_35_an_old_version_of_tls_is_refused(authority: trustme.CA, trust: Trust) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("a.example").configure_cert(context)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with Upstream(always(response()), tls=context) as upstream, pytest.raises(DialFault, match="TLS: "):
        dial(f"https://a.example:{upstream.port}/", "127.0.0.1", trust=trust)


def test_threat_35_a_server_without_tls_is_not_spoken_to(trust: Trust) -> None:
    with (
        Upstream(lambda peer: peer.send(b"HTTP/1.1 200 OK\r\n\r\n")) as upstream,
        pytest.raises(DialFault, match="TLS: "),
    ):
        dial(f"https://a.example:{upstream.port}/", "127.0.0.1", trust=trust)


@pytest.mark.slow
def test_a_handshake_that_never_ends_ends(trust: Trust) -> None:
    with Upstream(lambda peer: peer.wait_for_end() and None) as upstream, pytest.raises(OutOfTime):
        dial(f"https://a.example:{upstream.port}/", "127.0.0.1", trust=trust, patience=Patience(0.3))


def test_a_stream_over_tls_that_is_cut_off_is_a_fault(authority: trustme.CA, trust: Trust) -> None:
    """Whoever cuts a connection cannot make half an answer look like a whole one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("a.example").configure_cert(context)

    def cut(peer: Peer) -> None:
        peer.send(b"half")
        socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)

    with Upstream(cut, tls=context) as upstream:
        wire = dial(f"https://a.example:{upstream.port}/", "127.0.0.1", trust=trust)
        assert wire.recv(10, SOON) == b"half"
        with pytest.raises(DialFault):
            wire.recv(10, SOON)
        wire.close()


def test_no_session_is_resumed_from_one_connection_to_the_next(authority: trustme.CA, trust: Trust) -> None:
    reused: list[bool | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("a.example").configure_cert(context)

    def script(peer: Peer) -> None:
        reused.append(peer.sock.session_reused)  # type: ignore[attr-defined]
        always(response())(peer)

    with Upstream(script, tls=context) as upstream:
        for _ in range(3):
            wire = dial(f"https://a.example:{upstream.port}/", "127.0.0.1", trust=trust)
            ask(wire)
            wire.close()

    assert reused == [False] * 3


@pytest.mark.parametrize("content", [None, "", "not a certificate"])
def test_a_file_of_certificates_that_is_none_is_an_error(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(OSError, match=r".+"):
        Trust(str(file)).check()
    Trust().check()
