"""What a command line that makes no sense is told, before anything is started."""

from __future__ import annotations

import os
import resource

import pytest

from pulp_runtime.cli.serve import MOST_DESCRIPTORS, HostOptions, _allow_descriptors, serve

pytestmark = pytest.mark.usefixtures("plain_logger")


@pytest.fixture(autouse=True)
def _no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PORT", "remembered")
    monkeypatch.delenv("HTTP_PORT")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "provide exactly one of -host, -app, or -manifest"),
        ({"ignored": "examples/echo"}, "did you mean: pulp run examples/echo"),
        ({"host": "h", "app": "a"}, "-host, -app, and -manifest are mutually exclusive"),
        ({"host": "h", "manifests": ("m",)}, "-host, -app, and -manifest are mutually exclusive"),
        ({"app": "a", "manifests": ("m",)}, "-host, -app, and -manifest are mutually exclusive"),
        ({"manifests": ("m",), "validate_host": True}, "-validate-host requires -host"),
        ({"app": "a", "manifests": ("m", "a")}, "a is an application, which runs alone: pulp run a"),
        ({"host": "h", "manifests": ("m", "h")}, "h is a host, which runs alone: pulp run h"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_inputs_that_make_no_sense_end_with_2(
    capsys: pytest.CaptureFixture[str], options: dict[str, object], told: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        serve(HostOptions(**options))

    (line,) = capsys.readouterr().out.splitlines()
    assert ended.value.code == 2
    assert 'level=ERROR msg="invalid runtime input"' in line
    assert told in line


@pytest.mark.parametrize(
    ("before", "flag", "after"),
    [(None, "9090", "9090"), ("8081", "9090", "8081"), ("", "9090", ""), (None, None, None), (None, "", None)],
    ids=["the flag", "the environment before the flag", "an empty variable too", "neither", "an empty flag"],
)
def test_the_port_is_put_into_the_environment_unless_it_is_there(
    monkeypatch: pytest.MonkeyPatch, before: str | None, flag: str | None, after: str | None
) -> None:
    if before is not None:
        monkeypatch.setenv("HTTP_PORT", before)
    with pytest.raises(SystemExit):
        serve(HostOptions(http_port=flag))

    assert os.environ.get("HTTP_PORT") == after


@pytest.mark.parametrize(
    ("before", "flag", "after"),
    [(None, "c.pem", "c.pem"), ("e.pem", "c.pem", "e.pem"), ("", "c.pem", "c.pem"), (None, None, None)],
    ids=["the flag", "the environment before the flag", "but not when it is empty", "neither"],
)
@pytest.mark.parametrize(("option", "variable"), [("http_cert", "HTTP_CERT"), ("http_key", "HTTP_KEY")])
def test_the_certificate_is_put_into_the_environment_unless_it_is_there(
    monkeypatch: pytest.MonkeyPatch, option: str, variable: str, before: str | None, flag: str | None, after: str | None
) -> None:
    monkeypatch.setenv(variable, "remembered")
    monkeypatch.delenv(variable)
    if before is not None:
        monkeypatch.setenv(variable, before)
    with pytest.raises(SystemExit):
        serve(HostOptions(**{option: flag}))

    assert os.environ.get(variable) == after


def test_a_host_may_have_as_many_descriptors_as_the_system_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1024, 1_048_576))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, limits: asked.append(limits))

    _allow_descriptors()

    assert asked == [(MOST_DESCRIPTORS, 1_048_576)]
