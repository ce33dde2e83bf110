from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime._net.fetch_url import HOST_BYTES, URL_BYTES, WEBSOCKET, Url, UrlInvalid, join_url, parse_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://a.example", Url("http", "a.example", 80, "/")),
        ("https://a.example", Url("https", "a.example", 443, "/")),
        ("HTTP://A.Example:8080/B?c=D#e", Url("http", "a.example", 8080, "/B?c=D")),
        ("http://a.example?x", Url("http", "a.example", 80, "/?x")),
        ("http://a.example:/", Url("http", "a.example", 80, "/")),
        ("http://a.example./", Url("http", "a.example.", 80, "/")),
        ("http://a_b.example/", Url("http", "a_b.example", 80, "/")),
        ("http://a.example/a%2Fb/../c;d=1,2", Url("http", "a.example", 80, "/a%2Fb/../c;d=1,2")),
        ("http://a.example/é x?q=ü y\\d#f", Url("http", "a.example", 80, "/%C3%A9%20x?q=%C3%BC%20y%5Cd")),
        ("http://192.0.2.1:81/", Url("http", "192.0.2.1", 81, "/")),
        ("http://[2001:DB8:0::1]/", Url("http", "2001:db8::1", 80, "/")),
        ("http://[::ffff:127.0.0.1]:1/", Url("http", "::ffff:7f00:1", 1, "/")),
        ("http://bücher.example/", Url("http", "xn--bcher-kva.example", 80, "/")),
        ("http://xn--bcher-kva.example/", Url("http", "xn--bcher-kva.example", 80, "/")),
    ],
)
def test_a_url_is_read_as(text: str, url: Url) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not absolute"),
        ("/path", "not absolute"),
        ("//a.example/", "not absolute"),
        ("a.example", "not absolute"),
        (" http://a.example", "not absolute"),
        ("http:/a.example", "not absolute"),
        ("http:\\\\a.example", "not absolute"),
        ("http://", "no host"),
        ("http:///x", "no host"),
        ("http://:80/", "no host"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://a.example/", "scheme"),
        ("unix:///run/docker.sock", "scheme"),
        ("ftp://a.example/", "scheme"),
        ("ws://a.example/", "scheme"),
        ("javascript:alert(1)", "not absolute"),
        ("http://good.example@evil.example/", "user information"),
        ("http://user:pass@a.example/", "user information"),
        ("http://good.example%40evil.example/", "host"),
        ("http://good.example\\@evil.example/", "backslash"),
        ("http://evil.example\\.good.example/", "backslash"),
        ("http://a.example/\\b", "backslash"),
        ("http://a.example\t/", "control"),
        ("http://a.example/\r\nX: 1", "control"),
        ("http://a.example/\0", "control"),
        ("http://a .example/", "host"),
        ("http://a..example/", "host"),
        ("http://.a.example/", "host"),
        ("http://-a.example/", "host"),
        ("http://a.example:0/", "port"),
        ("http://a.example:65536/", "port"),
        ("http://a.example:+80/", "port"),
        ("http://a.example:8_0/", "port"),
        ("http://a.example:٨٠/", "port"),
        ("http://a.example:80:80/", "port"),
        ("http://[::1/", "brackets"),
        ("http://[::1]x/", "brackets"),
        ("http://::1/", "no host"),
        ("http://[fe80::1%25eth0]/", "zone"),
        ("http://[::g]/", "IPv6"),
        ("http://[127.0.0.1]/", "IPv6"),
        ("http://faß.example/", "xn--"),
        ("http://a\u200db.example/", "xn--"),
        (f"http://{'a.' * HOST_BYTES}example/", "host"),
        (f"http://{'é.' * HOST_BYTES}example/", "xn--"),
        (f"http://{'a' * 64}.example/", "host"),
        (f"http://a.example/{'x' * URL_BYTES}", "characters"),
    ],
)
def test_a_url_is_refused(text: str, words: str) -> None:
    with pytest.raises(UrlInvalid, match=words):
        parse_url(text)


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "017700000001", "127.1", "127.0.1", "0177.0.0.1", "0x7f.0.0.1", "127.0.0.01",
     "127.0.0.0x1", "1.2.3.4.5", "256.1.1.1", "127.0.0.1.", "0", "1", "a.1", "a.0x1", "0x", "٢.example.1"],
)  # fmt: skip
def test_a_number_that_some_take_for_an_address_is_refused(host: str) -> None:
    with pytest.raises(UrlInvalid):
        parse_url(f"http://{host}/")


@pytest.mark.parametrize("host", ["127。0。0。1", "１２７.0.0.1", "127．0．0．1", "①②⑦.⓪.⓪.①"])
def test_digits_and_dots_of_other_scripts_are_the_address_they_look_like(host: str) -> None:
    assert parse_url(f"http://{host}/").host == "127.0.0.1"


def test_other_schemes_are_others() -> None:
    assert parse_url("wss://a.example/x", WEBSOCKET) == Url("wss", "a.example", 443, "/x")
    with pytest.raises(UrlInvalid, match="scheme"):
        parse_url("http://a.example/", WEBSOCKET)


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("http://a.example:80/", "a.example"),
        ("http://a.example:443/", "a.example:443"),
        ("https://a.example:443/", "a.example"),
        ("http://[::1]:81/", "[::1]:81"),
        ("http://[::1]/", "[::1]"),
    ],
)
def test_the_authority_names_the_port_only_when_it_must(text: str, authority: str) -> None:
    assert parse_url(text).authority == authority


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/x", "https://a.example/x"),
        ("y?z", "https://a.example/b/y?z"),
        ("?z", "https://a.example/b/c?z"),
        ("../../..", "https://a.example/"),
        ("//b.example/", "https://b.example/"),
        ("http://b.example:81/é", "http://b.example:81/%C3%A9"),
        ("#f", "https://a.example/b/c?d"),
    ],
)
def test_a_redirect_leads_to(location: str, url: str) -> None:
    found = join_url(parse_url("https://a.example/b/c?d"), location)

    assert f"{found.origin}{found.target}" == url


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "javascript:1", "gopher://x", "http://", "http://u@b.example/", "\\\\b.example/x", "/\\b",
     "http:\\\\b.example", "/x\r\nY: 1", "http://0x7f.1/", "http://[::1%25lo]/", "/" + "x" * URL_BYTES],
)  # fmt: skip
def test_a_redirect_leads_nowhere(location: str) -> None:
    with pytest.raises(UrlInvalid):
        join_url(parse_url("https://a.example/b"), location)


ODD = st.text(
    st.one_of(st.sampled_from("abz019.:/@\\?#[]%-_ \t\r\n\0éｅ。①"), st.characters(exclude_categories=["Cs"])),
    max_size=40,
)


@given(ODD, ODD)
def test_whatever_is_given_the_target_is_one_word_and_the_host_is_a_host(host: str, rest: str) -> None:
    try:
        url = parse_url(f"http://{host}/{rest}")
    except UrlInvalid:
        return
    assert url.target.startswith("/")
    assert url.target.isascii()
    assert url.target.isprintable()
    assert " " not in url.target
    assert url.host.isascii()
    assert not set(url.host) & set("/@\\?#[]% \t\r\n\0")
    assert 0 < url.port < 65536
    if url.host.replace(".", "").isdigit() or ":" in url.host:
        assert str(ipaddress.ip_address(url.host)) == url.host
    assert parse_url(f"{url.origin}{url.target}") == url


@given(ODD)
def test_whatever_a_server_says_a_redirect_leads_somewhere_or_nowhere(location: str) -> None:
    try:
        url = join_url(parse_url("http://a.example/b/c"), location)
    except UrlInvalid:
        return
    assert url == parse_url(f"{url.origin}{url.target}")
