import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime._net.routes import (
    MEMO_ENTRIES,
    PATTERN_SEGMENTS,
    ROUTES_PER_OWNER,
    Route,
    RouteConflict,
    RouteInvalid,
    RouteTable,
    compile_pattern,
    overlap,
)


def table(*patterns: str, owner: str = "cell") -> RouteTable:
    made = RouteTable()
    for pattern in patterns:
        made = made.add("GET", pattern, owner)
    return made


def found(routes: RouteTable, path: str) -> tuple[str, dict[str, str]] | None:
    match = routes.match("GET", path)
    return match and (match.pattern, match.params)


@pytest.mark.parametrize(
    ("pattern", "path", "params"),
    [
        pytest.param("/echo/hello", "/echo/hello", {}, id="a literal matches itself"),
        pytest.param("/echo/:msg", "/echo/hi", {"msg": "hi"}, id="a parameter takes one segment"),
        pytest.param("/echo/:msg", "/echo/", {"msg": ""}, id="a parameter takes an empty segment"),
        pytest.param("/:a/:b", "/x/y", {"a": "x", "b": "y"}, id="two parameters take two segments"),
        pytest.param("/:a/x", "/é b/x", {"a": "é b"}, id="a parameter takes decoded text"),
        pytest.param("/m/*rest", "/m/a/b", {"rest": "a/b"}, id="a catch-all takes what is left"),
        pytest.param("/m/*rest", "/m/", {"rest": ""}, id="a catch-all takes an empty rest"),
        pytest.param("/m/*rest", "/m", {"rest": ""}, id="a catch-all takes nothing at all"),
        pytest.param("/*", "/a/b", {"": "a/b"}, id="a catch-all without a name is stored under none"),
        pytest.param("/*rest", "/", {"rest": ""}, id="a catch-all takes the root"),
        pytest.param("/m/*rest/ignored", "/m/x", {"rest": "x"}, id="what follows a catch-all is ignored"),
        pytest.param("/", "/", {}, id="the root is one empty literal"),
        pytest.param("/a/", "/a/", {}, id="a trailing slash is an empty literal"),
        pytest.param("/a/:", "/a/", {}, id="a parameter without a name is an empty literal"),
    ],
)
def test_a_pattern_matches_a_path(pattern: str, path: str, params: dict[str, str]) -> None:
    assert found(table(pattern), path) == (pattern, params)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        pytest.param("/a", "/a/", id="a path has a trailing slash more"),
        pytest.param("/a/", "/a", id="a path has a trailing slash less"),
        pytest.param("/a/:x", "/a", id="a path has a segment less"),
        pytest.param("/a/:x", "/a/b/c", id="a path has a segment more"),
        pytest.param("/A", "/a", id="case differs"),
        pytest.param("/a%62", "/ab", id="a pattern is compared undecoded"),
        pytest.param("/a/:", "/a/x", id="an empty literal takes nothing"),
        pytest.param("/m/*rest", "/n/x", id="a catch-all is behind another literal"),
        pytest.param("/a/b/*rest", "/a", id="a path ends before a catch-all's literals"),
        pytest.param("/:x", "*", id="an asterisk is no path"),
        pytest.param("/:x", "", id="nothing is no path"),
    ],
)
def test_a_pattern_does_not_match(pattern: str, path: str) -> None:
    assert found(table(pattern), path) is None


def test_another_method_does_not_match_and_neither_does_head() -> None:
    routes = table("/a")
    assert routes.match("POST", "/a") is None
    assert routes.match("HEAD", "/a") is None


def test_a_method_is_trimmed_and_upper_cased() -> None:
    assert RouteTable().add(" post ", "/a", "cell").match("POST", "/a") is not None


@pytest.mark.parametrize(
    ("patterns", "path", "winner"),
    [
        (["/:x", "/a"], "/a", "/a"),
        (["/*r", "/:x"], "/a", "/:x"),
        (["/*r", "/a/*r"], "/a/b", "/a/*r"),
        (["/:x/b", "/a/:y"], "/a/b", "/a/:y"),
        (["/a/*r", "/a"], "/a", "/a"),
        (["/a/*r", "/a/:x"], "/a/", "/a/:x"),
        (["/:x", "/"], "/", "/:x"),
        (["/", "/:x"], "/", "/"),
        (["/*r", "/"], "/", "/"),
        (["/a/:x", "/a/"], "/a/", "/a/:x"),
        (["/:x/*r", "/a/:y/c"], "/a/b/c", "/a/:y/c"),
        (["/a/:y/c", "/a/b/*r"], "/a/b/c", "/a/b/*r"),
    ],
)
def test_the_most_specific_from_the_left_wins_and_ties_go_to_the_earlier(
    patterns: list[str], path: str, winner: str
) -> None:
    match = table(*patterns).match("GET", path)
    assert match is not None
    assert match.pattern == winner


def test_the_same_owner_and_shape_adds_nothing_and_keeps_the_first_names() -> None:
    first = table("/a/:x")
    assert first.add("GET", "/a/:y", "cell") is first
    assert found(first, "/a/1") == ("/a/:x", {"x": "1"})


def test_the_same_owner_may_overlap_itself() -> None:
    assert len(table("/a/:x", "/a/b", "/*r").routes) == 3


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        pytest.param("/a", "/a", id="both are the same"),
        pytest.param("/a/:x", "/a/:y", id="only names differ"),
        pytest.param("/a/:x", "/a/b", id="a parameter shadows a literal"),
        pytest.param("/a/b", "/:x/b", id="a parameter stands before a literal"),
        pytest.param("/a/*r", "/a/b/c", id="a catch-all covers it"),
        pytest.param("/a/b/c", "/a/*r", id="it covers the other"),
        pytest.param("/a", "/a/*r", id="a catch-all takes nothing"),
        pytest.param("/*r", "/", id="a catch-all takes the root"),
        pytest.param("/", "/health", id="the root counts as no literal"),
        pytest.param("/a/", "/a/b", id="a trailing slash counts as no literal"),
        pytest.param("/a/", "/a/:x", id="a trailing slash meets a parameter"),
    ],
)
def test_threat_39_a_route_of_another_cell_is_refused_and_both_are_named(held: str, wanted: str) -> None:
    routes = RouteTable().add("GET", held, "alpha")
    with pytest.raises(RouteConflict, match=r"beta overlaps .* of alpha") as refused:
        routes.add("GET", wanted, "beta")
    assert (refused.value.owner, refused.value.holder) == ("beta", "alpha")
    assert (refused.value.pattern, refused.value.held) == (wanted, held)


@pytest.mark.parametrize(
    ("held", "wanted"),
    [("/a", "/b"), ("/a", "/a/"), ("/a", "/a/b"), ("/a/:x", "/b/:x"), ("/a/*r", "/b/*r"), ("/a", "/A")],
)
def test_threat_39_routes_that_share_no_path_live_side_by_side(held: str, wanted: str) -> None:
    assert len(RouteTable().add("GET", held, "alpha").add("GET", wanted, "beta").routes) == 2


def test_threat_39_a_path_the_host_holds_for_itself_cannot_be_taken() -> None:
    routes = RouteTable().add("GET", "/metrics", "the host")
    with pytest.raises(RouteConflict, match="the host"):
        routes.add("GET", "/:anything", "cell")


def test_another_method_is_no_conflict() -> None:
    assert len(RouteTable().add("GET", "/a", "alpha").add("POST", "/a", "beta").routes) == 2


def test_a_table_never_changes() -> None:
    first = table("/a")
    second = first.add("GET", "/b", "cell")
    assert found(first, "/b") is None
    assert found(second, "/b") is not None
    assert found(second.without("cell"), "/b") is None
    assert found(second, "/b") is not None


def test_a_new_table_has_an_empty_memo() -> None:
    first = table("/*r")
    assert found(first, "/a") == ("/*r", {"r": "a"})
    assert found(first.add("GET", "/a", "cell"), "/a") == ("/a", {})


def test_without_an_owner_the_others_stay() -> None:
    routes = RouteTable().add("GET", "/a", "alpha").add("GET", "/b", "beta").without("alpha")
    assert [route.owner for route in routes.routes] == ["beta"]
    assert routes.add("GET", "/:x", "beta")


def test_a_match_is_remembered_and_holds_its_parameters_packed() -> None:
    routes = table("/echo/:msg")
    match = routes.match("GET", "/echo/hi")
    assert match is not None
    assert match.packed_params == b"\x81\xa3msg\xa2hi"
    assert routes.match("GET", "/echo/hi") is match


def test_threat_37_the_memo_of_a_table_stays_bounded() -> None:
    routes = table("/:x")
    for number in range(3 * MEMO_ENTRIES):
        assert found(routes, f"/{number}") == ("/:x", {"x": str(number)})
    assert len(routes._memo) <= MEMO_ENTRIES


@pytest.mark.parametrize(
    ("method", "pattern"),
    [
        pytest.param("", "/a", id="there is no method"),
        pytest.param("  ", "/a", id="the method is blank"),
        pytest.param("GET POST", "/a", id="the method is two"),
        pytest.param("X" * 33, "/a", id="the method is too long"),
        pytest.param("GET", "", id="there is no pattern"),
        pytest.param("GET", "a", id="the pattern has no slash in front"),
        pytest.param("GET", "/" + "a" * 2_048, id="the pattern is too long"),
        pytest.param("GET", "/a" * (PATTERN_SEGMENTS + 1), id="the pattern has too many segments"),
    ],
)
def test_an_unusable_route_is_refused(method: str, pattern: str) -> None:
    with pytest.raises(RouteInvalid):
        RouteTable().add(method, pattern, "cell")


def test_an_owner_has_a_bounded_number_of_routes() -> None:
    routes = RouteTable(Route("GET", f"/{number}", "cell") for number in range(ROUTES_PER_OWNER))
    with pytest.raises(RouteInvalid, match="cell has 1000 routes"):
        routes.add("GET", "/one-more", "cell")
    assert routes.add("GET", "/one-more", "other")
    assert routes.add("GET", "/1", "cell") is routes


def test_a_path_longer_than_every_pattern_reaches_a_catch_all() -> None:
    path = "/a" * 4_000
    match = table("/*rest", "/:x").match("GET", path)
    assert match is not None
    assert match.params["rest"] == path[1:]


SEGMENTS = st.sampled_from(["", "a", "b", ":x", ":", "*r"])
PATTERNS = st.lists(SEGMENTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
PATHS = st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=5).map(lambda p: "/" + "/".join(p))


@given(st.lists(PATTERNS, max_size=8), PATHS)
def test_the_index_selects_what_reading_every_route_in_turn_would(patterns: list[str], path: str) -> None:
    routes = table(*patterns)
    parts = path[1:].split("/")
    matching = [route for route in routes.routes if route.params(parts) is not None]
    best = max(matching, key=lambda route: route.ranks, default=None)  # the first of equals
    match = routes.match("GET", path)
    assert (match and match.pattern) == (best and best.pattern)


@given(PATTERNS, PATTERNS, PATHS)
def test_patterns_that_match_one_path_overlap(one: str, other: str, path: str) -> None:
    parts = path[1:].split("/")
    if all(Route("GET", pattern, "cell").params(parts) is not None for pattern in (one, other)):
        assert overlap(compile_pattern(one), compile_pattern(other))
        assert overlap(compile_pattern(other), compile_pattern(one))
