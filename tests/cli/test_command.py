"""The flags of the classic command line, in all their spellings, and the verbs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pulp_runtime.cli import command
from pulp_runtime.cli.serve import HostOptions

Parse = Callable[..., HostOptions]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["-manifest", "a.toml", "-http-port", "9090", "-storage-root", "d"], id="one dash"),
        pytest.param(["--manifest", "a.toml", "--http-port", "9090", "--storage-root", "d"], id="two dashes"),
        pytest.param(["-manifest=a.toml", "--http-port=9090", "-storage-root=d"], id="equals signs"),
        pytest.param(["-storage-root", "d", "-http-port", "9090", "-manifest", "a.toml"], id="another order"),
        pytest.param(
            ["-manifest", "a.toml", "-http-port", "9090", "-storage-root", "d", "left", "-over"], id="leftovers"
        ),
        pytest.param(["-manifest=a.toml", "-http-port=9090", "-storage-root=d", "--", "-x"], id="a double dash"),
    ],
)
def test_flags_may_be_written_in_every_way_of_go(parsed: Parse, arguments: list[str]) -> None:
    options = parsed(*arguments)

    assert (options.manifests, options.http_port, options.storage_root) == (("a.toml",), "9090", "d")


def test_manifests_are_repeated_and_listed_with_commas(parsed: Parse) -> None:
    options = parsed("-manifest", "a, b,,", "--manifest= c ", "-manifest", ",")

    assert options.manifests == ("a", "b", "c")


def test_what_is_not_given_has_its_default(parsed: Parse) -> None:
    assert parsed("-manifest", "a") == HostOptions(manifests=("a",))


def test_a_value_may_look_like_a_flag(parsed: Parse) -> None:
    assert parsed("-storage-root", "-http-port", "-manifest", "-x").manifests == ("-x",)


def test_a_value_may_hold_an_equals_sign(parsed: Parse) -> None:
    assert parsed("-manifest=a=b").manifests == ("a=b",)


@pytest.mark.parametrize(
    ("word", "wanted"),
    [("-validate-host", True), ("--validate-host=true", True), ("-validate-host=false", False)],
)
def test_a_flag_without_a_value_may_have_one(parsed: Parse, word: str, wanted: bool) -> None:
    assert parsed(word, "-host", "h").validate_host is wanted


def test_the_first_word_that_is_no_flag_is_kept_for_advice(parsed: Parse) -> None:
    options = parsed("examples/echo", "-manifest", "a")

    assert (options.manifests, options.ignored) == ((), "examples/echo")


def test_run_takes_paths_and_flags_in_any_order(parsed: Parse) -> None:
    options = parsed("run", "a", "-http-port", "1", "b", "--storage-root=d", "--", "-c")

    assert options == HostOptions(manifests=("a", "b", "-c"), http_port="1", storage_root="d")


@pytest.mark.parametrize("dash", ["-", "--"])
def test_the_certificate_and_http2_are_asked_for_by_name(parsed: Parse, dash: str) -> None:
    options = parsed("run", "a", f"{dash}http-cert", "c.pem", f"{dash}http-key=k.pem", f"{dash}http2")

    assert options == HostOptions(manifests=("a",), http_cert="c.pem", http_key="k.pem", http2=True)
    assert parsed("-manifest", "a") == HostOptions(manifests=("a",))


def test_a_comma_in_a_path_of_run_is_a_comma(parsed: Parse) -> None:
    assert parsed("run", "a,b").manifests == ("a,b",)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-nope"], "No such option '--nope'"),
        (["-manifst", "x"], "Did you mean '--manifest'?"),
        (["--nope=1", "-manifest", "a"], "No such option '--nope'"),
        (["-manifest"], "'--manifest' requires an argument"),
        (["-manifest", "a", "-log-format", "xml"], "'xml' is not one of 'auto', 'text', 'json'"),
        (["run"], "Missing argument 'PATH...'"),
        (["run", "a", "-storage-rot", "1"], "Did you mean '--storage-root'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_told_with_the_usage_on_standard_error(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.run(arguments)

    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert err.startswith("Usage: pulp ")
    assert told in err


@pytest.mark.parametrize(
    "arguments", [["-h"], ["-help"], ["--help"], ["--h"], ["run", "-h"], ["run", "--help"]], ids=" ".join
)
def test_help_is_for_standard_output(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.run(arguments)

    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    assert out.startswith("Usage: pulp run ")
    assert "--http-port PORT" in out


@pytest.mark.parametrize("word", ["--version", "-version"])
def test_the_version_is_one_line(capsys: pytest.CaptureFixture[str], word: str) -> None:
    from importlib.metadata import version

    with pytest.raises(SystemExit) as ended:
        command.run([word])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pulp {version('pulp-runtime')}\n"
