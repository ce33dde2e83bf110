"""`pulp.host.toml`, rule by rule (spec/core §2.3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.host import (
    _KNOWN,
    MOST_INSTANCES,
    MOST_ROUTES,
    ROUTE_CHARACTERS,
    HostRoute,
    HostSpec,
    load_host,
)

WASM = b"\0asm\x01\0\0\0"


class Folder:
    """A folder in which a host is written, file by file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = path / "pulp.host.toml"

    def app(self, name: str, *lines: str, cells: tuple[str, ...] = ("web",)) -> None:
        """Write an application of cells that have these lines in their manifests."""
        for cell in cells:
            at = self.path / name / cell
            at.mkdir(parents=True, exist_ok=True)
            (at / "pulp.cell.toml").write_text("\n".join((f'name = "{cell}"', 'version = "1"', *lines)))
            (at / "cell.wasm").write_bytes(WASM)
        (self.path / name / "pulp.app.toml").write_text(
            f'name = "{name}"\nversion = "1"\ncells = {json.dumps([f"{cell}/pulp.cell.toml" for cell in cells])}\n'
        )

    def load(self, text: str, *, head: str = 'name = "host"\n') -> HostSpec:
        self.manifest.write_text(head + text)
        return load_host(self.manifest)

    def refused(self, text: str, *, head: str = 'name = "host"\n') -> ManifestError:
        with pytest.raises(ManifestError) as caught:
            self.load(text, head=head)
        return caught.value


def entry(name: str, *lines: str, namespace: str = "", app: str = "") -> str:
    """Return an application's entry."""
    written = [
        f'[[applications]]\nid = "{name}"\nmanifest = "{app or name}/pulp.app.toml"',
        f'storage_namespace = "{namespace or name}"',
    ]
    return "\n".join((*written, *lines, ""))


def route(path: str, application: str, *lines: str) -> str:
    return "\n".join((f'[[routes]]\npath = "{path}"\napplication = "{application}"', *lines, ""))


@pytest.fixture
def host(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def two(host: Folder) -> Callable[..., HostSpec]:
    """Return `two(text)`: load a host of `sessions`, and of `web`, which depends on it; `text` comes last."""
    host.app("sessions")
    host.app("web")
    return lambda text="", load=host.load: load(entry("web", 'depends_on = ["sessions"]') + entry("sessions") + text)


def instances(spec: HostSpec) -> list[str]:
    return [one.identity for one in spec.applications]


# What there is to say -----------------------------------------------------------------------------------------------


def test_the_least_a_host_says_is_its_name_and_one_application(host: Folder) -> None:
    host.app("shop")
    spec = host.load(entry("shop"))

    (one,) = spec.applications
    assert (spec.name, spec.schema_version, spec.routes, spec.manifest_path) == ("host", 1, (), host.manifest)
    assert (one.id, one.instance, one.identity, one.label) == ("shop", "shop-1", "shop/shop-1", "shop")
    assert (one.storage_namespace, one.event_namespace, one.depends_on) == ("shop", "shop", ())
    assert one.app.cells[0].name == "web"


def test_aliases_are_kept_and_the_only_instance_is_where_a_route_leads_and_dependencies_start_first(
    host: Folder,
) -> None:
    host.app("sessions")
    host.app("web")
    text = entry("web", 'depends_on = ["sessions"]', 'aliases = ["public"]', 'event_namespace = "front"')
    spec = host.load(text + entry("sessions") + route("/", "web") + route("/a", "sessions", 'instance = "sessions-1"'))

    assert instances(spec) == ["sessions/sessions-1", "web/public"]
    assert spec.routes == (HostRoute("/", "web", "public"), HostRoute("/a", "sessions", "sessions-1"))
    assert spec.depends_on == {"sessions": (), "web": ("sessions",)}
    assert spec.applications[1].event_namespace == "front"


def test_three_instances_with_one_alias_are_named_after_it_and_then_by_number(host: Folder) -> None:
    host.app("sessions")
    spec = host.load(entry("sessions", "instances = 3", 'aliases = ["public"]'))

    assert instances(spec) == ["sessions/public", "sessions/sessions-2", "sessions/sessions-3"]
    assert [one.label for one in spec.applications] == instances(spec)
    assert [one.log_name for one in spec.applications] == instances(spec)


def test_a_blank_alias_is_a_number_too(host: Folder) -> None:
    host.app("a")
    assert instances(host.load(entry("a", "instances = 2", 'aliases = [" ", " b "]'))) == ["a/a-1", "a/b"]


@pytest.mark.parametrize("count", ["instances = 0", "instances = 1", ""])
def test_an_application_without_a_number_runs_once(host: Folder, count: str) -> None:
    host.app("a")
    assert instances(host.load(entry("a", count))) == ["a/a-1"]


def test_applications_that_could_start_together_start_by_name_and_so_do_instances(host: Folder) -> None:
    for name in ("zoo", "bar", "abc"):
        host.app(name)
    text = entry("zoo") + entry("bar", "instances = 2", 'aliases = ["zeta", "alpha"]')
    spec = host.load(text + entry("abc", 'depends_on = ["zoo"]'))

    assert instances(spec) == ["bar/alpha", "bar/zeta", "zoo/zoo-1", "abc/abc-1"]


def test_a_folder_stands_for_the_manifest_in_it_also_for_an_application(host: Folder) -> None:
    host.app("shop")
    host.load('[[applications]]\nid = "shop"\nmanifest = "shop"\nstorage_namespace = "shop"\n')

    assert load_host(host.path).applications[0].app.name == "shop"
    with pytest.raises(ManifestError, match=r"read manifest: no pulp\.host\.toml in this directory"):
        load_host(host.path / "shop")


def test_two_applications_of_one_module_are_applications_of_their_own(host: Folder) -> None:
    host.app("shop")
    one, other = host.load(entry("a", app="shop") + entry("b", app="shop")).applications

    assert one.app.cells[0].wasm_path == other.app.cells[0].wasm_path
    assert one.app is not other.app


def test_the_id_of_an_application_need_not_be_its_own_name(host: Folder) -> None:
    host.app("shop")
    (one,) = host.load(entry("store", app="shop")).applications

    assert (one.id, one.app.name) == ("store", "shop")


def test_dependencies_are_tidied(two: Callable[..., HostSpec], host: Folder) -> None:
    two()
    spec = host.load(entry("web", 'depends_on = [" sessions", "", "sessions"]') + entry("sessions"))
    assert spec.depends_on["web"] == ("sessions",)


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "text", "words", "field"),
    [
        ("", "", "validate manifest: name is required", "name"),
        ('name = " "\n', "", "name is required", "name"),
        (f'name = "{"a" * 129}"\n', "", "more than 128 characters", "name"),
        ("schema_version = 2\n", "", "host schema_version 2 is newer than host supports (max 1)", "schema_version"),
        ("schema_version = -1\n", "", "host schema_version -1 is not a version", "schema_version"),
        ('name = "h"\n', "", "applications is required; write [[applications]]", "applications"),
        ('name = "h"\n', "port = 1", "unknown manifest fields: port", "port"),
        ('name = "h"\n', "[[applications]]\npath = 1", "unknown manifest fields: applications.path", "applications"),
        ('name = "h"\n', "[[applications]]", "applications[0].id is required", "applications.id"),
        (
            'name = "h"\n',
            "applications = 1",
            "parse manifest: line 2: applications: an array of tables",
            "applications",
        ),
        ("name = ", "", "parse manifest: ", ""),
    ],
)
def test_what_must_be_there_is_asked_for_by_name(host: Folder, head: str, text: str, words: str, field: str) -> None:
    error = host.refused(text, head=head)

    assert words in str(error)
    assert error.field.startswith(field)
    assert error.path == host.manifest


@pytest.mark.parametrize(
    ("text", "words", "field"),
    [
        pytest.param(entry("A", app="a"), 'applications[0].id "A" contains "A"', "id", id="an id with a capital"),
        pytest.param(entry("a/b", app="a"), '"a/b" contains "/"', "id", id="an id with a slash"),
        pytest.param(entry("x" * 64, app="a"), "is 64 characters long", "id", id="an id that is too long"),
        pytest.param(entry("legacy", app="a"), 'id "legacy" is reserved', "id", id="an id that cells without have"),
        pytest.param(entry("a") * 2, 'applications[1]: duplicate id "a"', "id", id="an id twice"),
        pytest.param(
            entry("a") + entry("b", namespace="a"),
            'duplicate storage_namespace "a", which applications[0] has',
            "storage_namespace",
            id="a storage namespace of two applications",
        ),
        pytest.param(
            entry("a", 'event_namespace = "e"') + entry("b", 'event_namespace = "e"'),
            'duplicate event_namespace "e"',
            "event_namespace",
            id="an event namespace of two applications",
        ),
        pytest.param(
            entry("a") + entry("b", 'event_namespace = "a"'),
            'duplicate event_namespace "a"',
            "event_namespace",
            id="an event namespace that another has by default",
        ),
        pytest.param(
            entry("a", namespace="../unsafe"), '"../unsafe" contains "."', "storage_namespace", id="an unsafe namespace"
        ),
        pytest.param(
            '[[applications]]\nid = "a"\nmanifest = "a"\n',
            'application "a": storage_namespace is required',
            "storage_namespace",
            id="no storage namespace",
        ),
        pytest.param(
            '[[applications]]\nid = "a"\nstorage_namespace = "a"\n',
            'application "a": manifest is required',
            "manifest",
            id="no manifest",
        ),
        pytest.param(entry("a", app="/a"), "must be relative to pulp.host.toml", "manifest", id="an absolute path"),
        pytest.param(entry("a", app="C:/a"), "must be relative to pulp.host.toml", "manifest", id="a Windows path"),
        pytest.param(entry("a", app="gone"), 'application "a": read manifest: ', "", id="a manifest that is not there"),
        pytest.param(entry("a", "instances = -1"), "instances -1 is less than 1", "instances", id="minus one instance"),
        pytest.param(
            entry("a", f"instances = {MOST_INSTANCES + 1}"),
            f"instances {MOST_INSTANCES + 1} is more than {MOST_INSTANCES}",
            "instances",
            id="too many instances",
        ),
        pytest.param(
            entry("a", f"instances = {MOST_INSTANCES}") + entry("b"),
            f"{MOST_INSTANCES + 1} application instances are more than {MOST_INSTANCES}",
            "instances",
            id="too many instances together",
        ),
        pytest.param(
            entry("a", 'aliases = ["x", "y"]'), "has 2 aliases and 1 instances", "aliases", id="more aliases than runs"
        ),
        pytest.param(
            entry("a", "instances = 2", 'aliases = ["x", "x"]'), 'duplicate alias "x"', "aliases", id="an alias twice"
        ),
        pytest.param(
            entry("a", "instances = 2", 'aliases = ["a-2"]'),
            'duplicate alias "a-2"',
            "aliases",
            id="an alias that is the number of another",
        ),
        pytest.param(entry("a", 'aliases = ["X"]'), 'alias "X" contains "X"', "aliases", id="an alias with a capital"),
        pytest.param(
            entry("a", 'depends_on = ["c"]') + entry("b"),
            'application "a" depends_on "c", which is none of the applications; name one of a, b',
            "depends_on",
            id="an unknown dependency",
        ),
        pytest.param(
            entry("a", 'depends_on = ["b"]') + entry("b", 'depends_on = ["a"]'),
            "application dependency cycle: a -> b -> a",
            "depends_on",
            id="a circle",
        ),
        pytest.param(
            entry("a", 'depends_on = ["a"]'), "application dependency cycle: a -> a", "depends_on", id="itself"
        ),
    ],
)
def test_an_application_that_makes_no_sense_is_refused(host: Folder, text: str, words: str, field: str) -> None:
    host.app("a")
    host.app("b")
    error = host.refused(text)

    assert words in str(error)
    assert error.field.endswith(field)


def test_what_is_wrong_with_a_cell_is_told_with_application_and_file(host: Folder) -> None:
    host.app("a", "capabilites = []")
    error = host.refused(entry("a"))

    assert 'application "a": app cell web/pulp.cell.toml: unknown manifest fields: capabilites' in str(error)
    assert error.path == host.path / "a" / "web" / "pulp.cell.toml"


# Routes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/a", "/a/b", "/A/~b", "/a.b", "/a;b=1,2", "/.well-known", "/" + "a" * (ROUTE_CHARACTERS - 1)]
)
def test_a_canonical_path_is_taken_as_it_is(two: Callable[..., HostSpec], path: str) -> None:
    assert [one.path for one in two(route(path, "web")).routes] == [path]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "must start with /"),
        ("a", "must start with /"),
        ("/a/", "is not canonical; write /a"),
        ("//a", "is not canonical; write /a"),
        ("/a//b", "is not canonical; write /a/b"),
        ("/a/../b", "is not canonical; write /b"),
        ("/./a", "is not canonical; write /a"),
        ("/a%2Fb", 'must not contain "%"'),
        ("/a b", 'must not contain " "'),
        ("/ü", 'must not contain "ü" (LATIN SMALL LETTER U WITH DIAERESIS, U+00FC)'),
        ("/a?b", 'must not contain "?"'),
        ("/a#b", 'must not contain "#"'),
        ("/a\\\\b", "must not contain"),
        ("/a\\u0000", "must not contain"),
        ("/" + "a" * ROUTE_CHARACTERS, f"is longer than {ROUTE_CHARACTERS} characters"),
    ],
)
def test_a_path_that_is_not_canonical_is_refused(two: Callable[..., HostSpec], host: Folder, path, words) -> None:
    error = two(route(path, "web"), host.refused)

    assert words in str(error)
    assert error.field == "routes.path"


@pytest.mark.parametrize(
    ("text", "words", "field"),
    [
        (route("/a", "web") * 2, 'duplicate route path "/a"', "path"),
        (route("/a", "gone"), 'unknown application "gone"; name one of web, sessions', "application"),
        (route("/a", "many"), 'instance is required, for application "many" has 2', "instance"),
        (route("/a", "many", 'instance = "x"'), 'unknown instance "x" of application "many"', "instance"),
        (route("/a", "web", 'instance = "y"'), 'unknown instance "y" of application "web"', "instance"),
        ("".join(route(f"/{n}", "web") for n in range(MOST_ROUTES + 1)), "routes are more than", "routes"),
    ],
)
def test_a_route_that_leads_nowhere_is_refused(two: Callable[..., HostSpec], host: Folder, text, words, field) -> None:
    host.app("many")
    error = two(entry("many", "instances = 2", 'aliases = ["y", "z"]') + text, host.refused)

    assert words in str(error)
    assert error.field.endswith(field)


def test_routes_are_in_the_order_of_their_paths(two: Callable[..., HostSpec]) -> None:
    text = route("/b", "web") + route("/", "sessions") + route("/a", "web")
    assert [one.path for one in two(text).routes] == ["/", "/a", "/b"]


# Who calls whom -----------------------------------------------------------------------------------------------------


def test_a_function_of_a_direct_dependency_may_be_consumed(host: Folder) -> None:
    host.app("web", 'host_consumes = ["session.new"]')
    host.app("sessions", 'provides = ["session.new"]')
    spec = host.load(entry("web", 'depends_on = ["sessions"]') + entry("sessions", "instances = 2"))

    assert spec.applications[-1].app.cells[0].host_consumes == ("session.new",)


@pytest.mark.parametrize(
    ("depends_on", "words"),
    [
        pytest.param([], "no direct dependency application provides it", id="without depending on anybody"),
        pytest.param(["middle"], "no direct dependency application provides it", id="of a dependency's dependency"),
        pytest.param(["one", "two"], "but one/web, two/web provide it ambiguously", id="that two of them provide"),
        pytest.param(["twice"], "but twice/a, twice/b provide it ambiguously", id="that two cells provide"),
    ],
)
def test_a_function_without_exactly_one_provider_is_refused(host: Folder, depends_on: list[str], words: str) -> None:
    host.app("web", 'host_consumes = ["f"]', 'provides = ["g"]')
    host.app("middle")
    for name in ("one", "two"):
        host.app(name, 'provides = ["f"]')
    host.app("twice", 'provides = ["f"]', cells=("a", "b"))
    text = entry("web", f"depends_on = {json.dumps(depends_on)}") + entry("middle", 'depends_on = ["one"]')
    error = host.refused(text + entry("one") + entry("two") + entry("twice"))

    assert 'application "web": cell "web" host_consumes "f"' in str(error)
    assert words in str(error)
    assert (error.field, error.path) == ("host_consumes", host.path / "web" / "web" / "pulp.cell.toml")


def test_a_function_of_who_depends_on_it_and_one_of_its_own_may_not_be_consumed(host: Folder) -> None:
    host.app("web", 'host_consumes = ["f"]', 'provides = ["f"]')
    host.app("above", 'provides = ["f"]')

    error = host.refused(entry("web") + entry("above", 'depends_on = ["web"]'))

    assert "no direct dependency application provides it" in str(error)


# Whatever is written ------------------------------------------------------------------------------------------------

ANYTHING = st.one_of(
    st.text(max_size=8),
    st.integers(-3, 300),
    st.booleans(),
    st.lists(st.sampled_from(["a", "b", "", "x y"]), max_size=3),
)
FIELDS = [*_KNOWN["applications"], "other"]


@given(
    entries=st.lists(st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=5), max_size=2),
    routes=st.lists(st.dictionaries(st.sampled_from([*_KNOWN["routes"], "other"]), ANYTHING, max_size=4), max_size=2),
)
def test_any_host_is_read_or_refused_with_a_sentence(tmp_path_factory, entries, routes) -> None:
    host = Folder(tmp_path_factory.mktemp("host"))
    host.app("a")
    least = {"id": "a", "manifest": "a", "storage_namespace": "a"}
    lines = []
    for head, tables in (("applications", [{**least, **one} for one in entries]), ("routes", routes)):
        for table in tables:
            lines.append(f"[[{head}]]")
            lines += [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    problem = ""
    try:
        assert host.load("\n".join(lines)).applications
    except ManifestError as error:
        problem = str(error)
    assert problem.isprintable()
