"""The one-line language of compositions: what is written is read back, what is wrong is refused at its spot."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters_xling.errors import UnknownName, XlingError, unknown
from adapters_xling.expressions import (
    FUNCTIONS,
    MAX_CHARACTERS,
    ExpressionError,
    names_in,
    parse_init,
    parse_merge,
    parse_route,
)
from adapters_xling.spec import (
    Alone,
    Arithmetic,
    Average,
    Base,
    Dare,
    Fresh,
    Fuse,
    Init,
    Merged,
    Route,
    Slot,
    Stack,
    Ties,
    Use,
    Warm,
    WeightAverage,
    describe,
)

RESERVED = {"slot", "base", "fresh"}


def resolve(name: str) -> str:
    known = ("anli_plus", "mnli", "squad1", "a", "b", "mlm-sw", "mlm-de")
    if name not in known:
        raise unknown("entry", name, known)
    return f"key-of-{name}"


# --- what is written means what it says -----------------------------------------------------------------------------

A, B = Use(entry="key-of-a"), Use(entry="key-of-b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("slot", Slot()),
        ("base", Base()),
        ("a", A),
        ("stack(anli_plus)", Use(entry="key-of-anli_plus")),
        (" stack( a ,b,\tslot ) ", Stack(parts=(A, B, Slot()))),
        ("average(a:0.7, b:0.3)", Average(parts=(A, B), weights=(0.7, 0.3))),
        ("average(a, stack(a, b))", Average(parts=(A, Stack(parts=(A, B))), weights=(0.5, 0.5))),
        ("fuse(a, b)", Fuse(parts=(A, B))),
        ("alone(a)", Alone(entry="key-of-a")),
        (
            "arithmetic(+a:1, -b:0.5)",
            Merged(merge=Arithmetic(entries=("key-of-a", "key-of-b"), weights=(1.0, -0.5))),
        ),
        (
            "merge(average(a, b))",
            Merged(merge=WeightAverage(entries=("key-of-a", "key-of-b"), weights=(0.5, 0.5))),
        ),
        (
            "stack(ties(a, b, density=0.3), slot)",
            Stack(parts=(Merged(merge=Ties(entries=("key-of-a", "key-of-b"), weights=(1, 1), density=0.3)), Slot())),
        ),
        (
            "dare(a:2, b:1e-1, density=.5, seed=7)",
            Merged(merge=Dare(entries=("key-of-a", "key-of-b"), weights=(2, 0.1), density=0.5, seed=7)),
        ),
    ],
)
def test_a_route_is_read_as_it_is_meant(text: str, expected: Route) -> None:
    assert parse_route(text, resolve=resolve) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fresh", Fresh()),
        ("a", Warm(entry="key-of-a")),
        ("average(a:0.7, b:0.3)", WeightAverage(entries=("key-of-a", "key-of-b"), weights=(0.7, 0.3))),
        ("arithmetic(a:-2)", Arithmetic(entries=("key-of-a",), weights=(-2.0,))),
        ("arithmetic(-a:-2, b)", Arithmetic(entries=("key-of-a", "key-of-b"), weights=(2.0, 1.0))),
    ],
)
def test_an_init_is_read_as_it_is_meant(text: str, expected: Init) -> None:
    assert parse_init(text, resolve=resolve) == expected


def test_the_entry_at_hand_and_the_language_at_hand() -> None:
    at_hand = Use(entry="mine")
    found = parse_route("stack(mlm-{language}, alone(slot))", resolve=resolve, slot=at_hand, language="sw")
    assert found == Stack(parts=(Use(entry="key-of-mlm-sw"), Alone(entry="mine")))
    assert parse_route("average(slot, b)", resolve=resolve, slot=at_hand) == Average(
        parts=(at_hand, B), weights=(0.5, 0.5)
    )
    merged = parse_route("merge(average(slot, b))", resolve=resolve, slot=at_hand)
    assert merged == Merged(merge=WeightAverage(entries=("mine", "key-of-b"), weights=(0.5, 0.5)))
    assert list(names_in("stack(mlm-{language}, average(a:0.5, slot:0.5))")) == ["mlm-{language}", "a"]


# --- round trip -----------------------------------------------------------------------------------------------------

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True).filter(lambda name: name not in RESERVED)
coefficients = st.floats(-1e6, 1e6, allow_nan=False).filter(bool)
positive = st.floats(1e-6, 1e6)


def shares(count: int) -> st.SearchStrategy[tuple[float, ...]]:
    raw = st.lists(st.floats(0.01, 1), min_size=count, max_size=count)
    return raw.map(lambda values: tuple(value / sum(values) for value in values))


@st.composite
def merges(draw: st.DrawFn) -> WeightAverage | Arithmetic | Ties | Dare:
    keys = tuple(draw(st.lists(names, min_size=2, max_size=4, unique=True)))
    weights = lambda of: tuple(draw(st.lists(of, min_size=len(keys), max_size=len(keys))))  # noqa: E731
    density = draw(st.floats(0.01, 1))
    match draw(st.integers(0, 3)):
        case 0:
            return WeightAverage(entries=keys, weights=draw(shares(len(keys))))
        case 1:
            return Arithmetic(entries=keys, weights=weights(coefficients))
        case 2:
            return Ties(entries=keys, weights=weights(positive), density=density)
    return Dare(entries=keys, weights=weights(coefficients), density=density, seed=draw(st.integers(0, 10**9)))


def several(parts: st.SearchStrategy[Route]) -> st.SearchStrategy[Route]:
    two = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        two.map(lambda found: Stack(parts=found)),
        two.map(lambda found: Fuse(parts=found)),
        two.flatmap(lambda found: shares(len(found)).map(lambda weights: Average(parts=found, weights=weights))),
    )


routes = st.recursive(
    st.one_of(
        st.just(Slot()),
        st.just(Base()),
        names.map(lambda name: Use(entry=name)),
        names.map(lambda name: Alone(entry=name)),
        merges().map(lambda merge: Merged(merge=merge)),
    ),
    several,
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(routes)
def test_every_route_is_read_back_from_how_it_is_written(route: Route) -> None:
    assert parse_route(describe(route)) == route


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.just(Fresh()), names.map(lambda name: Warm(entry=name)), merges()))
def test_every_init_is_read_back_from_how_it_is_written(init: Init) -> None:
    assert parse_init(describe(init)) == init


# --- what is wrong --------------------------------------------------------------------------------------------------

WRONG: list[tuple[str, int, str]] = [
    ("", 0, "ends here"),
    ("   ", 3, "ends here"),
    ("(", 0, "begins no name"),
    (")", 0, "begins no name"),
    ("stack", 0, "unknown entry 'stack'"),
    ("stack(", 6, "ends here"),
    ("stack()", 6, "of nothing"),
    ("stack(a", 5, "never closed"),
    ("stack(a, (b))", 9, "begins no name"),
    ("stack(a,)", 8, "begins no name"),
    ("stack(a b)", 8, "expected ',' or ')'"),
    ("stack(a) b", 9, "nothing may follow"),
    ("stack(a))", 8, "closes nothing"),
    ("stack(a:0.5, b)", 7, "have no weights"),
    ("stack(+a, b)", 6, "knows no signs"),
    ("stakc(a, b)", 0, "Did you mean 'stack'?"),
    ("avrage(a, b)", 0, "Did you mean 'average'?"),
    ("average(mnil, squad1)", 8, "Did you mean 'mnli'?"),
    ("average(a:0.7, b:0.4)", 0, "make 1.1"),
    ("average(a:0.7, b)", 16, "has no weight"),
    ("average(a)", 0, "two parts or more"),
    ("average(a:, b)", 10, "a number"),
    ("average(a:x, b:1)", 10, "a number"),
    ("average(a:0.5x, b:0.5)", 10, "a number"),
    ("average(a:1e999, b:1)", 10, "a number"),
    ("average(a:0, b:1)", 9, "weight of 0"),
    ("average(a, density=0.5)", 11, "it takes none"),
    ("average(a, b", 7, "never closed"),
    ("average(-a:0.5, b:0.5)", 8, "knows no signs"),
    ("arithmetic(+a:0)", 13, "coefficient of 0"),
    ("arithmetic(+a, -stack(b, a))", 16, "expected the name of an entry"),
    ("arithmetic(+a, -slot)", 16, "is not an entry"),
    ("arithmetic(a, a)", 14, "named twice"),
    ("ties(a, b, density=0)", 11, "above 0, up to 1"),
    ("ties(a, b, density=1.5)", 11, "above 0, up to 1"),
    ("ties(a, b, densty=0.5)", 11, "it takes density"),
    ("ties(a, density=0.5, b)", 21, "settings stand behind"),
    ("ties(a, b, density=0.5, density=0.5)", 24, "given twice"),
    ("ties(a:-1, b:1)", 0, "above 0"),
    ("ties(a)", 0, "2 or more"),
    ("dare(a, b, seed=0.5)", 11, "whole number"),
    ("dare(a, b, seed=-1)", 11, "whole number"),
    ("fuse(a)", 0, "two entries or more"),
    ("fuse(a:1, b:2)", 6, "have no weights"),
    ("alone(a, b)", 0, "takes one part"),
    ("alone(slot)", 6, "stands alone already"),
    ("alone(stack(a, b))", 6, "expected the name of an entry"),
    ("alone(base)", 6, "is not an entry"),
    ("merge(a)", 6, "merge takes one of"),
    ("merge(stack(a, b))", 6, "merge takes one of"),
    ("merge(average(a, stack(a, b)))", 17, "expected the name of an entry"),
    ("stack(mlm-{language}, slot)", 10, "means the language"),
    ("stack(mlm-{langauge}, slot)", 10, "expected ',' or ')'"),
    ("a:0.5", 1, "nothing may follow"),
    ("a, b", 1, "nothing may follow"),
    ("+a", 0, "begins no name"),
    ("fresh", 0, "not a route"),
    ("stack(a; b)", 7, "expected ',' or ')'"),
    ("stack('a', b)", 6, "begins no name"),
    ("../../etc/passwd", 2, "nothing may follow"),
    ("stack(__import__, slot)", 6, "unknown entry"),
    ("__import__(a)", 0, "unknown composition"),
    ("stack(ключ, slot)", 6, "begins no name"),
    ("stack(a\x00, b)", 7, "expected ',' or ')'"),
    ("(" * 50, 0, "begins no name"),
    ("stack(" * 50 + "a" + ")" * 50, 78, "12 levels deep"),
    ("a" * (MAX_CHARACTERS + 1), MAX_CHARACTERS, "at most"),
]


@pytest.mark.parametrize(("text", "position", "why"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_refused_at_its_spot(text: str, position: int, why: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_route(text, resolve=resolve)
    message = str(caught.value)
    assert why in message
    assert caught.value.position == position
    lines = message.splitlines()
    assert lines[-1].strip() == "^"
    shown = lines[-2][: lines[-1].index("^") + 1]
    if position < len(text) and text[position].isascii() and text[position].isprintable():
        assert shown.endswith(text[position])  # the caret stands under the character


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("stack(a, b)", "is a route"),
        ("fuse(a, b)", "is a route"),
        ("slot", "is not an entry"),
        ("ties(a", "never closed"),
    ],
)
def test_what_is_no_way_to_start_is_refused(text: str, why: str) -> None:
    with pytest.raises(ExpressionError, match=why):
        parse_init(text, resolve=resolve)


@pytest.mark.parametrize("text", ["a", "fresh"])
def test_what_is_no_merge_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match="names no merge"):
        parse_merge(text, resolve=resolve)


def test_an_unknown_name_keeps_its_reason_and_cause() -> None:
    with pytest.raises(ExpressionError, match="unknown entry 'mnil'") as caught:
        parse_route("stack(mnil, slot)", resolve=resolve)
    assert isinstance(caught.value.__cause__, UnknownName)


pieces = st.sampled_from(
    [*FUNCTIONS, "a", "b", "mnli", "slot", "base", "nobody", "{language}", "{", "(", ")", ",", ":", "=", "+", "-", " ",
     "0.5", "1", "1e400", "nan", "inf", "density", "seed", "é", "\x00", "\n", "'", "$(x)", "..", "/"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(pieces, max_size=14).map("".join), st.text(max_size=40)))
def test_whatever_is_written_is_read_or_refused_with_a_position(text: str) -> None:
    for parse in (parse_route, parse_init, parse_merge):
        try:
            found = parse(text, resolve=resolve)
        except XlingError as err:
            assert isinstance(err, ExpressionError) and 0 <= err.position <= len(text)
            assert "at character" in str(err)
        else:
            assert describe(found)


@settings(max_examples=100, deadline=None)
@given(routes, st.data())
def test_a_valid_line_with_one_character_changed_is_read_or_refused(route: Route, data: st.DataObject) -> None:
    text = describe(route)
    at = data.draw(st.integers(0, len(text)))
    other = data.draw(st.sampled_from(["", "(", ")", ",", ":", "=", "-", "x", " ", "0", "é"]))
    changed = text[:at] + other + text[at + 1 :]
    try:
        parse_route(changed)
    except XlingError as err:
        assert isinstance(err, ExpressionError)
