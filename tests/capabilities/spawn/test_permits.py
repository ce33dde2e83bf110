from __future__ import annotations

import os
from pathlib import Path

import pytest

from pulp_runtime.capabilities.spawn.permits import Folders, Programs, Refused, environment
from pulp_runtime.errors import ExtensionError


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on the search path with the program `tool`; the folder `elsewhere` beside it has one too."""
    for name in ("tools", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").write_text("#!/bin/sh\n")
        (tmp_path / name / "tool").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/tools:/usr/bin:/bin")
    return tmp_path / "tools"


# Programs ---------------------------------------------------------------------------------------------------------


def test_a_name_stands_for_what_the_search_path_has(tools: Path) -> None:
    programs = Programs(["tool"], "")

    assert programs.find("tool") == f"{tools}/tool"
    assert programs.find(f"{tools}/tool") == f"{tools}/tool"


def test_another_path_of_the_same_file_is_as_good_and_is_not_what_is_run(tools: Path) -> None:
    (tools.parent / "elsewhere" / "tool").unlink()
    (tools.parent / "elsewhere" / "tool").symlink_to(tools / "tool")

    for path in (f"{tools}//tool", f"{tools}/../elsewhere/tool"):
        assert Programs(["tool"], "").find(path) == f"{tools}/tool"


def test_a_path_stands_for_that_file(tools: Path) -> None:
    assert Programs([f"{tools}/tool"], "").find(f"{tools}/tool") == f"{tools}/tool"
    assert Programs([f"{tools}/tool"], "").find("tool") == f"{tools}/tool"


def test_an_allowed_name_under_which_there_is_nothing_is_nothing(tools: Path) -> None:
    assert Programs(["no-such-tool"], "").find("no-such-tool") == ""


@pytest.mark.parametrize("entry", ["tool", "{tools}/tool"])
@pytest.mark.parametrize(
    "wanted",
    [
        *("", "other", "{elsewhere}/tool", "./tool", "tools/tool", "../tools/tool", "/tool", "TOOL", "tool ", "tool\0"),
        *("/", ".", "{tools}/../elsewhere/tool", "-tool", "{tools}/", "sh", "/bin/sh"),
    ],
)
def test_whatever_else_is_refused(tools: Path, entry: str, wanted: str) -> None:
    places = {"tools": tools, "elsewhere": tools.parent / "elsewhere"}

    with pytest.raises(Refused):
        Programs([entry.format(**places)], "").find(wanted.format(**places))


def test_nothing_is_allowed_by_an_empty_list() -> None:
    with pytest.raises(Refused, match="sh is not allowed"):
        Programs([], "").find("sh")


def test_a_search_path_that_depends_on_where_one_is_is_not_searched(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tools)
    monkeypatch.setenv("PATH", f".:{os.path.relpath(tools)}:")

    assert Programs(["tool"], "").find("tool") == ""


@pytest.mark.parametrize("entry", ["", "bin/tool", "./tool", "a\0b"])
def test_an_entry_that_is_neither_a_name_nor_a_path_is_named(entry: str) -> None:
    with pytest.raises(ExtensionError, match=r"allow_bins: .* is neither a name nor an absolute path"):
        Programs([entry], "allow_bins")


# Folders ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "inside").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "root-too").mkdir()
    (tmp_path / "root" / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "in").symlink_to(tmp_path / "root" / "inside")
    return tmp_path / "root"


@pytest.mark.parametrize("wanted", ["{root}", "{root}/inside", "{root}/in", "{root}/inside/..", "{root}/not/there"])
def test_a_folder_below_a_root_is_allowed(root: Path, wanted: str) -> None:
    Folders([str(root)], "").check(wanted.format(root=root))


@pytest.mark.parametrize(
    "wanted", ["/", "{root}/..", "{root}/../outside", "{root}/out", "{root}-too", "{root}/out/..", ".", "a\0b", "/etc"]
)
def test_a_folder_elsewhere_is_refused(root: Path, wanted: str) -> None:
    folders = Folders([str(root)], "")

    with pytest.raises(Refused):
        folders.check(wanted.format(root=root))
    with pytest.raises(Refused), folders.opened(wanted.format(root=root)):
        pass


def test_without_roots_every_folder_is_refused(root: Path) -> None:
    with pytest.raises(Refused):
        Folders([], "").check(str(root))


def test_a_folder_is_held_as_the_file_it_is(root: Path) -> None:
    with Folders([str(root)], "").opened(f"{root}/in") as path:
        assert path is not None
        (root / "in").unlink()
        (root / "in").symlink_to(root.parent / "outside")  # too late

        assert os.path.realpath(path) == str(root / "inside")


def test_a_link_that_changes_after_it_was_checked_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = Folders([str(root)], "")
    check = folders.check

    def and_then(wanted: str) -> None:
        check(wanted)
        (root / "in").unlink()
        (root / "in").symlink_to(root.parent / "outside")

    monkeypatch.setattr(folders, "check", and_then)

    with pytest.raises(Refused, match="outside is not below a root"), folders.opened(f"{root}/in"):
        pass


def test_no_folder_is_no_path() -> None:
    with Folders([], "").opened("") as path:
        assert path is None


def test_a_root_that_is_no_absolute_path_is_named() -> None:
    with pytest.raises(ExtensionError, match="run_roots: 'here' is no absolute path"):
        Folders(["here"], "run_roots")


# Environment ------------------------------------------------------------------------------------------------------


def test_threat_44_nothing_of_the_host_s_environment_is_passed_that_may_be_a_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PULP_JWT_HS256_SECRET", "canary")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("DATABASE_URL", "canary")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("TZ", "UTC")

    passed = environment({}, (), ())

    assert "canary" not in passed.values()
    assert set(passed) <= {"HOME", "LANG", "LANGUAGE", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"}
    assert passed["LC_ALL"] == "C.UTF-8"


def test_the_operator_may_pass_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOL_KEY", "1")
    monkeypatch.setenv("TOOL_HOME", "2")

    assert environment({}, ("TOOL_*",), ())["TOOL_HOME"] == "2"
    assert "TOOL_HOME" not in environment({}, ("TOOL_KEY",), ())


def test_what_the_cell_sets_goes_before_what_the_host_has_and_what_is_fixed_before_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")

    assert environment({"LANG": "C", "TERM": "dumb", "A": ""}, (), (), TERM="xterm").items() >= {
        ("LANG", "C"),
        ("TERM", "xterm"),
        ("A", ""),
    }


@pytest.mark.parametrize(
    "name",
    [
        *("LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "PATH", "HOME", "BASH_ENV", "ENV", "PYTHONPATH"),
        *("PERL5OPT", "NODE_OPTIONS", "RUBYOPT", "GIT_SSH_COMMAND", "GLIBC_TUNABLES", "PULP_TASK", "IFS", "PAGER"),
    ],
)
def test_a_cell_may_not_set_what_makes_programs_run_other_code(name: str) -> None:
    with pytest.raises(Refused, match=f"{name} makes programs run other code"):
        environment({name: "x"}, (), ())

    assert environment({name: "x"}, (), (name,))[name] == "x"


@pytest.mark.parametrize(("name", "value"), [("", "x"), ("a=b", "x"), ("a\0", "x"), ("a", "x\0")])
def test_what_no_environment_can_hold_is_refused(name: str, value: str) -> None:
    with pytest.raises(Refused, match="the environment cannot hold"):
        environment({name: value}, (), ())
