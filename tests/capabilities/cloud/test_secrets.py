from __future__ import annotations

import errno
import gc
import logging
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.capabilities.cloud.kv_runs import CREATE, FOLDER, READ, UPDATE, WRITE, Cloud, Program, content, fails

from pulp_runtime.capabilities.cloud import secrets
from pulp_runtime.capabilities.cloud.secrets_source import SECRET_BYTES, Secret, SecretFile, SecretFolder, SecretRefused
from pulp_runtime.ext import ExtensionError, How
from pulp_runtime.testing import FakeHost

ROOT = "/beta/secrets"
CANARY = "c4n4ry-7f3a91"


def keep(path: Path, value: str | bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(value if isinstance(value, bytes) else value.encode())
    path.chmod(mode)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    keep(folder / "stripe_key", CANARY)
    keep(folder / "other", "not granted")
    return folder


@pytest.fixture
def cloud(tmp_path: Path, folder: Path) -> Iterator[Cloud]:
    with FakeHost(tmp_path / "data") as host:
        yield Cloud(host, secrets.capability(), {"folder": str(folder)})


@pytest.fixture
def program(cloud: Cloud) -> Program:
    return cloud.program(cloud.cell(granted={"secrets": ("stripe_key", "later")}), ROOT)


# What a program sees ------------------------------------------------------------------------------------------------


def test_a_secret_is_a_file_with_exactly_its_bytes(program: Program) -> None:
    assert program.read("stripe_key") == CANARY.encode()
    assert program.stat("stripe_key").size == len(CANARY)


def test_only_granted_names_are_listed_and_opened(program: Program, folder: Path) -> None:
    assert program.ls() == ["stripe_key"]
    for name in ("other", "later", "stripe_key2", ".", "..", "../secrets/stripe_key"):
        with fails(errno.ENOENT):
            program.open(name)
    for name in ("other", "later"):
        with fails(errno.ENOENT):
            program.stat(name)
    keep(folder / "later", "now")
    assert program.ls() == ["later", "stripe_key"]


def test_a_program_that_is_granted_none_has_no_mount(cloud: Cloud) -> None:
    assert cloud.program(cloud.cell("none"), "/").ls("/") == []


def test_the_next_open_sees_the_new_value_and_an_open_file_the_old_one(program: Program, folder: Path) -> None:
    file = program.open("stripe_key")
    before = program.stat("stripe_key")
    keep(folder / "stripe_key", "rotated")

    assert content(file) == CANARY.encode()
    assert file.stat() == before
    assert program.read("stripe_key") == b"rotated"
    (folder / "stripe_key").unlink()
    with fails(errno.ENOENT):
        program.open("stripe_key")


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(UPDATE, id="to write"),
        pytest.param(WRITE, id="to replace"),
        pytest.param(CREATE, id="to create"),
        pytest.param(How(truncate=True), id="to truncate"),
        pytest.param(How(write=True, append=True), id="to append"),
    ],
)
@pytest.mark.parametrize("name", ["stripe_key", "other", "new"])
def test_threat_05_a_secret_is_not_opened(program: Program, folder: Path, how: How, name: str) -> None:
    with fails(errno.EROFS):
        program.open(name, how)
    assert (folder / "stripe_key").read_text() == CANARY


def test_threat_05_the_names_of_secrets_are_not_changed_either(program: Program, folder: Path) -> None:
    node = program.folder()
    for act in (
        lambda: program.unlink("stripe_key"),
        lambda: program.rename("stripe_key", "mine"),
        lambda: program.mkdir("mine"),
        lambda: program.rmdir("mine"),
        lambda: program.touch("stripe_key", 0),
        lambda: node.link(("stripe_key",), node, ("mine",)),
        lambda: node.symlink("stripe_key", ("mine",)),
    ):
        with fails(errno.EROFS):
            act()
    with fails(errno.EBADF):
        program.open("stripe_key").write_at(0, memoryview(b"x"))
    with fails(errno.ENOTDIR):
        program.open("stripe_key", FOLDER)
    with fails(errno.ENOTDIR):
        program.open("stripe_key/x")
    assert sorted(os.listdir(folder)) == ["other", "stripe_key"]


# Where they come from -----------------------------------------------------------------------------------------------


def test_what_is_in_the_namespace_s_folder_goes_first(folder: Path) -> None:
    keep(folder / "shop" / "stripe_key", "the shop's")
    source = SecretFolder(folder)

    assert source.find("shop", "stripe_key").value == b"the shop's"  # type: ignore[union-attr]
    assert source.find("bank", "stripe_key").value == CANARY.encode()  # type: ignore[union-attr]
    assert source.find("shop", "other").value == b"not granted"  # type: ignore[union-attr]
    assert source.find("bank", "shop") is None


def test_a_file_holds_all_of_them_and_those_of_a_namespace(tmp_path: Path) -> None:
    file = keep(tmp_path / "secrets.toml", f'a = "{CANARY}"\nb = "shared"\n[shop]\nb = "the shop\'s"\n')
    source = SecretFile(file)

    found = {(space, name): source.find(space, name) for space in ("shop", "bank") for name in ("a", "b", "c", "shop")}
    values = {key: secret.value.decode() for key, secret in found.items() if secret is not None}
    assert values == {
        ("shop", "a"): CANARY, ("shop", "b"): "the shop's", ("bank", "a"): CANARY, ("bank", "b"): "shared",
    }  # fmt: skip
    keep(file, 'a = "rotated"')
    assert source.find("shop", "a").value == b"rotated"  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666, 0o777, 0o601])
def test_a_file_that_is_open_to_others_is_refused_with_the_way_out(cloud: Cloud, folder: Path, mode: int) -> None:
    (folder / "stripe_key").chmod(mode)
    program = cloud.program(cloud.cell(granted={"secrets": ("stripe_key",)}), ROOT)

    with fails(errno.EIO):
        program.open("stripe_key")
    assert f"{folder}/stripe_key has mode {mode:04o}, open to others; run: chmod 600 {folder}/stripe_key" in cloud.log()
    (folder / "stripe_key").chmod(0o400)
    assert program.read("stripe_key") == CANARY.encode()


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED: only root can give files away")
def test_a_file_of_another_user_is_refused(folder: Path) -> None:
    os.chown(folder / "stripe_key", 12345, -1)
    with pytest.raises(SecretRefused, match=r"belongs to user 12345, the host runs as 0; run: chown 0 .*stripe_key"):
        SecretFolder(folder).find("shop", "stripe_key")


@pytest.mark.parametrize("which", ["", "shop"])
def test_a_folder_that_others_may_write_to_is_refused(folder: Path, which: str) -> None:
    keep(folder / "shop" / "stripe_key", "x")
    (folder / which).chmod(0o770)

    with pytest.raises(SecretRefused, match=r"has mode 0770, open to others; run: chmod go-w "):
        SecretFolder(folder).find("shop", "stripe_key")


def test_threat_02_links_are_followed_inside_the_folder_and_never_out_of_it(folder: Path, tmp_path: Path) -> None:
    outside = keep(tmp_path / "outside", CANARY)
    (folder / "..data").mkdir()
    keep(folder / "..data" / "linked", "inside")
    (folder / "linked").symlink_to("..data/linked")
    (folder / "leads-out").symlink_to(outside)
    (folder / "climbs").symlink_to("../outside")
    (folder / "shop").symlink_to(tmp_path)
    source = SecretFolder(folder)

    assert source.find("shop", "linked").value == b"inside"  # type: ignore[union-attr]
    for name in ("leads-out", "climbs"):
        with pytest.raises(SecretRefused, match="leads out of"):
            source.find("bank", name)
    assert source.find("shop", "outside") is None


def test_threat_08_what_is_no_regular_file_is_refused_without_waiting(folder: Path) -> None:
    os.mkfifo(folder / "pipe", 0o600)
    with pytest.raises(SecretRefused, match="is no regular file"):
        SecretFolder(folder).find("shop", "pipe")
    with pytest.raises(SecretRefused, match="is no regular file"):
        SecretFile(Path("/dev/null")).find("shop", "a")


@pytest.mark.parametrize("size", [SECRET_BYTES, SECRET_BYTES + 1])
def test_a_secret_has_at_most_64_kibibytes(program: Program, folder: Path, tmp_path: Path, size: int) -> None:
    keep(folder / "stripe_key", b"x" * size)
    file = SecretFile(keep(tmp_path / "all.toml", b'a = "' + b"x" * size + b'"'))
    if size <= SECRET_BYTES:
        assert len(program.read("stripe_key")) == size
        assert file.find("", "a") is not None
        return
    with fails(errno.EFBIG):
        program.open("stripe_key")
    with pytest.raises(SecretRefused, match="shorten it"):
        file.find("", "a")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(f'a = "{CANARY}', "no TOML at end of document", id="is cut off"),
        pytest.param(f"a = {CANARY}", r"no TOML at line 1, column \d+", id="is something else"),
        pytest.param(f'a = "{CANARY}"\na = "{CANARY}"', "no TOML", id="says a thing twice"),
        pytest.param(CANARY.encode() + b"\xff", "not UTF-8", id="is no text"),
        pytest.param("a = 7", 'a is no text; write a = "…"', id="has a number"),
        pytest.param("a = " + "[" * 50_000, "nested too deeply|no TOML", id="is nested too deeply"),
    ],
)
def test_a_file_is_refused_that(tmp_path: Path, text: str | bytes, reason: str) -> None:
    file = keep(tmp_path / "all.toml", text)
    with pytest.raises(SecretRefused, match=reason) as caught:
        SecretFile(file).find("shop", "a")

    assert str(file) in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.parametrize("source", [SecretFolder, SecretFile])
def test_a_source_that_is_not_there_is_refused(tmp_path: Path, source: type[SecretFolder] | type[SecretFile]) -> None:
    with pytest.raises(SecretRefused, match=r"nowhere is not there; create the"):
        source(tmp_path / "nowhere").find("shop", "a")
    keep(tmp_path / "blocked" / "file", "x")
    with pytest.raises(SecretRefused):
        source(tmp_path / "blocked" / "file" / "x").find("shop", "a")


# Loading ------------------------------------------------------------------------------------------------------------


def test_a_cell_with_secrets_needs_a_source(tmp_path: Path) -> None:
    with FakeHost(tmp_path) as host:
        cloud = Cloud(host, secrets.capability())
        cloud.cell("none")
        with pytest.raises(ExtensionError, match=r'write folder = "/path" under \["cloud.secrets"\]'):
            cloud.cell(granted={"secrets": ("a",)})


@pytest.mark.parametrize(
    ("config", "reason"),
    [({"folder": "/a", "file": "/b"}, "both set; remove one"), ({"path": "/a"}, "path"), ({"folder": 1}, "folder")],
)
def test_an_operators_mistake_is_refused(tmp_path: Path, config: dict[str, object], reason: str) -> None:
    with FakeHost(tmp_path) as host, pytest.raises(ExtensionError, match=reason):
        Cloud(host, secrets.capability(), config)


@pytest.mark.parametrize("name", ["../a", ".a", "a/b", "", "a\0b"])
def test_a_name_that_could_lead_elsewhere_refuses_the_cell(cloud: Cloud, name: str) -> None:
    with pytest.raises(ExtensionError, match="is no name of a secret"):
        cloud.cell(granted={"secrets": (name,)})


def test_what_is_not_there_yet_is_said_when_the_cell_is_loaded(cloud: Cloud, folder: Path) -> None:
    (folder / "other").chmod(0o644)
    cloud.cell(granted={"secrets": ("missing", "other")})

    assert "secret is not there yet" in cloud.log()
    assert "secret will be refused" in cloud.log()


@pytest.mark.parametrize("adopted", [True, False])
def test_a_reload_goes_on_with_the_grants_of_the_version_that_runs(cloud: Cloud, adopted: bool) -> None:
    cloud.cell(granted={"secrets": ("stripe_key",)})
    cloud.capability.swap_begin("shop")  # type: ignore[misc]
    cell = cloud.cell(granted={"secrets": ("other",)})
    cloud.capability.swap_end("shop", adopted)  # type: ignore[misc]

    assert cloud.program(cell, ROOT).ls() == (["other"] if adopted else ["stripe_key"])
    cloud.capability.teardown_cell("shop")  # type: ignore[misc]
    assert cloud.program(cell, "/").ls("/") == []


def test_threat_44_no_log_no_error_and_no_repr_has_a_secret_in_it(
    cloud: Cloud, folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    program = cloud.program(cloud.cell(granted={"secrets": ("stripe_key", "later")}), ROOT)
    file = program.open("stripe_key")
    seen = [repr(file), repr(file.stat()), repr(Secret(CANARY.encode(), 0)), repr(program.folder()), repr(os.environ)]
    for mode, value in ((0o644, CANARY), (0o600, CANARY * 9_999)):
        keep(folder / "stripe_key", value, mode)
        with pytest.raises(OSError) as caught:  # noqa: PT011
            program.open("stripe_key")
        report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        seen += [str(caught.value), *(str(at.locals) for at in report.stack if "pulp_runtime" in at.filename)]
    shown = capfd.readouterr()
    seen += [cloud.log(), caplog.text, shown.out, shown.err]

    assert "secret refused" in cloud.log()
    assert [text for text in seen if CANARY in text] == []


def test_threat_44_nothing_of_a_secret_is_kept_when_it_is_closed(program: Program, folder: Path) -> None:
    value = os.urandom(24).hex()
    keep(folder / "stripe_key", value)
    assert program.read("stripe_key") == value.encode()
    program.ls()
    gc.collect()

    kept = [one for one in gc.get_objects() if isinstance(one, Secret) and one.value == value.encode()]
    assert kept == []
    assert program.read("stripe_key") == value.encode()


def test_reading_needs_no_more_than_its_own_flags(program: Program) -> None:
    assert content(program.open("stripe_key", READ)) == CANARY.encode()
