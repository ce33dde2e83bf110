"""What an operator may say, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pulp_runtime.ext import CellRef, ExtensionError
from pulp_runtime.testing import FakeHost

from conftest import SECRET_KEY, Caller, settings
from pulp_ext_s3.settings import Settings, read_settings
from pulp_ext_s3.store import Store

FULL = {"S3_ENDPOINT": "https://s3.test", "S3_BUCKET": "b", "S3_ACCESS_KEY_ID": "a", "S3_SECRET_ACCESS_KEY": "s"}


def read(config: dict[str, Any] | None = None, **environment: str) -> Settings:
    found = read_settings(config or {}, {**FULL, **environment})
    assert isinstance(found, Settings)
    return found


def test_the_environment_is_enough() -> None:
    assert read() == Settings("https://s3.test", "b", "a", "s", "auto", False)


def test_the_older_names_stand_in() -> None:
    older = {name.replace("S3_", "R2_"): value for name, value in FULL.items()}

    assert read_settings({}, older) == read()


def test_the_hosts_settings_win() -> None:
    assert read({"bucket": "mine", "isolate": False}, S3_ISOLATE="1") == Settings(
        "https://s3.test", "mine", "a", "s", "auto", False
    )


def test_an_account_gives_the_endpoint() -> None:
    assert read(S3_ENDPOINT="", S3_ACCOUNT_ID="0123abc").endpoint == "https://0123abc.r2.cloudflarestorage.com"


def test_a_store_with_regions_can_be_told_which(make: Callable[..., Caller], endpoint: str) -> None:
    url = make(settings(endpoint, region="eu-west-1")).answer("s3_presign", key="k")["url"]

    assert "%2Feu-west-1%2Fs3%2F" in url
    assert read(S3_REGION="eu-west-1").region == "eu-west-1"


@pytest.mark.parametrize(("said", "isolate"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_isolation_can_be_switched_on(said: str, isolate: bool) -> None:
    assert read(S3_ISOLATE=said).isolate is isolate


@pytest.mark.parametrize(
    "endpoint",
    [
        "s3.test",
        "ftp://s3.test",
        f"https://user:{SECRET_KEY}@s3.test",
        "https://s3.test/bucket",
        "https://s3.test:port",
        "https://s3.test?x=1",
        "http://[::1",
        "unix:///run/s3",
    ],
)
def test_an_endpoint_that_is_no_address_is_refused_without_being_repeated(endpoint: str) -> None:
    with pytest.raises(ExtensionError, match="S3_ENDPOINT is not") as caught:
        read(S3_ENDPOINT=endpoint)

    assert SECRET_KEY not in str(caught.value)


@pytest.mark.parametrize("config", [{"buckett": "b"}, {"bucket": 1}, {"isolate": "yes"}])
def test_a_setting_that_does_not_exist_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ExtensionError, match=r"storage\.s3: "):
        read(config)


def test_the_secret_does_not_show_in_what_holds_it() -> None:
    assert SECRET_KEY not in repr(read(S3_SECRET_ACCESS_KEY=SECRET_KEY))


def test_nothing_is_taken_from_the_machine(
    make: Callable[..., Caller], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_PROFILE": "somebody",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_CA_BUNDLE": "/missing",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_SESSION_TOKEN": "of somebody else",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    caller = make(settings(endpoint))

    assert caller.code("s3_put", key="k") == 0
    assert "of+somebody+else" not in caller.answer("s3_presign", key="k")["url"]


@pytest.mark.parametrize("prefix", ["..", "a/../b", "a\n"])
def test_a_prefix_that_is_no_prefix_fails_the_load(make: Callable[..., Caller], endpoint: str, prefix: str) -> None:
    with pytest.raises(Exception, match=r'\[settings."storage\.s3"\]: prefix'):
        make(settings(endpoint), manifest={"prefix": prefix})


def test_an_unknown_setting_of_a_manifest_fails_the_load(make: Callable[..., Caller], endpoint: str) -> None:
    with pytest.raises(Exception, match="unknown field `bucket`"):
        make(settings(endpoint), manifest={"bucket": "another"})


@pytest.mark.slow
def test_cells_that_are_kept_apart_see_only_their_own(make: Callable[..., Caller], endpoint: str) -> None:
    one = make(settings(endpoint, isolate=True), name="one")
    two = make(settings(endpoint, isolate=True), name="one-more")
    one.answer("s3_put", key="k", body=b"one")
    two.answer("s3_put", key="k", body=b"two")

    assert [one.answer("s3_get", key="k")["body"], two.answer("s3_get", key="k")["body"]] == [b"one", b"two"]
    assert [entry["key"] for entry in one.answer("s3_list")["entries"]] == ["k"]
    assert one.code("s3_get", key="one-more/k") == 6
    assert one.code("s3_copy", src_key="../one-more/k", dst_key="mine") == 1


@pytest.mark.slow
def test_two_placements_of_one_cell_are_kept_apart_too(make: Callable[..., Caller], endpoint: str) -> None:
    config = settings(endpoint, isolate=True)
    one = make(config, names={"guest": "guest@one"})
    two = make(config, names={"guest": "guest@two"})
    one.answer("s3_put", key="k", body=b"one")

    assert two.code("s3_get", key="k") == 6
    assert (
        "/guest%40one/k?" in one.answer("s3_presign", key="k")["url"]
        or "/guest@one/k?" in one.answer("s3_presign", key="k")["url"]
    )


def test_a_cell_keeps_its_prefix_when_another_version_is_not_adopted() -> None:
    store = Store({})
    with FakeHost() as host:
        log = host("storage.s3").logger
        for adopted, prefix in ((False, "old/"), (True, "new/")):
            store.setup_cell(CellRef("a", "a", log, tables={"storage.s3": {"prefix": "old/"}}))
            store.swap_begin("a")
            store.setup_cell(CellRef("a", "a", log, tables={"storage.s3": {"prefix": "new/"}}))
            store.swap_end("a", adopted)

            assert store._prefixes == {"a": prefix}
