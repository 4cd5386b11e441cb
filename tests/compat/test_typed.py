"""What is computed over columns: stock's result, whatever comes and wherever it comes."""

from __future__ import annotations

import _thread
import contextlib
import copy
import gc
import itertools
import operator
import signal
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ferroshuffle import shuffle
from tests.compat.aggregators import ours, stock
from tests.compat.exact import assert_same_items, exact, outcome
from tests.compat.values import Colour, Metres, any_text
from tests.faults.children import run as run_alone

Functions = tuple[Callable[[Any], Any], Callable[[Any, Any], Any], Callable[[Any, Any], Any]]


def _same(value: Any) -> Any:
    return value


def _newest(one: Any, other: Any) -> Any:
    return one if one[1] >= other[1] else other


def _tuple_sum(one: Any, other: Any) -> Any:
    return one[0] + other[0], one[1] + other[1]


def _unpacked_sum(one: Any, other: Any) -> Any:
    a, b = one
    c, d = other
    return a + c, b + d


# Of a value, or of a pair of values.
OF_ONE: dict[str, Functions] = {
    "sum": (_same, operator.add, operator.add),
    "max": (_same, max, max),
    "min": (_same, min, min),
    "last": (_same, lambda a, b: b, lambda a, b: b),
    "first": (_same, lambda a, b: a, lambda a, b: a),
    "count": (lambda v: 1, lambda c, v: c + 1, operator.add),
    "average": (
        lambda v: (v, 1),
        lambda c, v: (c[0] + v, c[1] + 1),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
    ),
    "fold": (lambda v: 0 + v, operator.add, operator.add),
    "fold of floats": (lambda v: -0.0 + v, operator.add, operator.add),
    "last then sum": (_same, lambda a, b: b, operator.add),
    "sum then max": (_same, operator.add, max),
    "range": (
        lambda v: (v, v, 0),
        lambda c, v: (min(c[0], v), max(c[1], v), c[2] + 1),
        lambda a, b: (min(a[0], b[0]), max(a[1], b[1]), a[2] + b[2] + 1),
    ),
    "nested": (
        lambda v: ((v, 1), v),
        lambda c, v: ((c[0][0] + v, c[0][1] + 1), c[1]),
        lambda a, b: ((a[0][0] + b[0][0], a[0][1] + b[0][1]), b[1]),
    ),
}


def _append(combiner: list[Any], value: Any) -> list[Any]:
    combiner.append(value)
    return combiner


def _extend(combiner: list[Any], other: list[Any]) -> list[Any]:
    combiner.extend(other)
    return combiner


OF_ONE |= {
    "group": (lambda v: [v], _append, _extend),
    "concatenated": (lambda v: [v], lambda c, v: c + [v], operator.add),
    "twice": (lambda v: [v, v], lambda c, v: [*c, v, v], operator.add),
    "from empty": (lambda v: _append([], v), _append, _extend),
    "in front": (lambda v: [v], lambda c, v: [v] + c, lambda a, b: b + a),
    "with a count": (
        lambda v: ([v], 1),
        lambda c, v: (c[0] + [v], c[1] + 1),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
    ),
    "extends what is given": (_same, lambda a, b: a.extend(b) or a, lambda a, b: a.extend(b) or a),
}


def _add(combiner: set[Any], value: Any) -> set[Any]:
    combiner.add(value)
    return combiner


def _update(combiner: set[Any], other: set[Any]) -> set[Any]:
    combiner |= other
    return combiner


OF_ONE |= {
    "set": (lambda v: {v}, _add, _update),
    "set from empty": (lambda v: _add(set(), v), _add, lambda a, b: a | b),
    "set of a list": (
        lambda v: set([v]),  # noqa: C405 (people write that)
        lambda c, v: c.union([v]),
        lambda a, b: b | a,
    ),
    "set and count": (
        lambda v: ({v, 1}, 1),
        lambda c, v: (c[0] | {v}, c[1] + 1),
        lambda a, b: (a[0].union(b[0]), a[1] + b[1]),
    ),
    "union": (_same, lambda a, b: a | b, operator.or_),
    "union by a method": (_same, lambda a, b: a.union(b), set.union),
    "updates what is given": (_same, lambda a, b: a.update(b) or a, lambda a, b: a.update(b) or a),
}
OF_ONE |= {
    "product": (_same, operator.mul, operator.mul),
    "difference": (_same, operator.sub, operator.sub),
    "difference, the other way": (_same, lambda c, v: v - c, lambda a, b: b - a),
    "squares": (
        lambda v: (v, v * v, 1),
        lambda c, v: (c[0] + v, c[1] + v * v, c[2] + 1),
        lambda a, b: (a[0] + b[0], a[1] + b[1], a[2] + b[2]),
    ),
    "furthest": (abs, lambda c, v: max(c, abs(v)), max),
    "of three": (_same, lambda c, v: min(c, v, 3), lambda a, b: min(a, b, 3)),
    "more than twice": (_same, lambda c, v: c if c > v * 2 else v, lambda a, b: a or b),
    "or": (_same, lambda c, v: c or v, lambda a, b: a or b),
    "and": (_same, lambda c, v: c and v, lambda a, b: a and b),
    "bits": (
        lambda v: (v, v, v),
        lambda c, v: (c[0] | v, c[1] & v, c[2] ^ v),
        lambda a, b: (a[0] | b[0], a[1] & b[1], a[2] ^ b[2]),
    ),
    "how many are there": (
        lambda v: 0 if v is None else 1,
        lambda c, v: c + (1 if v is not None else 0),
        operator.add,
    ),
    "changes": (_same, lambda c, v: -v if c == v else v, lambda a, b: a - b if a != b else a),
    "any is true": (lambda v: not v, lambda c, v: c or not v, lambda a, b: a | b),
    "joined": (_same, operator.add, operator.add),
    "joined by commas": (
        _same,
        lambda c, v: c + "," + v,
        lambda a, b: a + ";" + b,
    ),
    "joined from nothing": (lambda v: "" + v, lambda c, v: c + v, lambda a, b: a + b),
    "joined and counted": (
        lambda v: (v, 1),
        lambda c, v: (c[0] + v, c[1] + 1),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
    ),
    "bytes by zeros": (_same, lambda c, v: c + b"\0" + v, lambda a, b: a + b),
    "three added": (_same, lambda c, v: c + v + 1 + v, lambda a, b: a + b + 1),
    "length": (len, lambda c, v: c + len(v), operator.add),
    "halves": (lambda v: v * 0.5, lambda c, v: c + v * 0.5, operator.add),
}
OF_TWO: dict[str, Functions] = {
    "weighted": (
        lambda v: v[0] * v[1],
        lambda c, v: c + v[0] * v[1],
        operator.add,
    ),
    "the greater": (
        _same,
        lambda c, v: c if c[0] - c[1] > v[0] - v[1] else v,
        lambda a, b: a if a[0] - a[1] > b[0] - b[1] else b,
    ),
    "sums": (_same, _tuple_sum, _tuple_sum),
    "unpacked": (_same, _unpacked_sum, _unpacked_sum),
    "newest": (_same, _newest, _newest),
    "second": (lambda v: v[1], lambda c, v: c + v[1], operator.add),
    "pair, first": (_same, lambda a, b: a, lambda a, b: a),
}
ALL = OF_ONE | OF_TWO

_ints = st.integers(-3, 3) | st.sampled_from([2**62, -(2**62), 2**63 - 1, -(2**63), 2**61 - 1, -1])
_floats = st.floats() | st.sampled_from([0.0, -0.0, 1.0, float("inf"), float("nan"), 2.0**53])
_texts = st.sampled_from(["", "a", "é", "\U0001f980", "key-12", "a\0b"]) | any_text
_misfits = st.sampled_from(
    [True, None, 2**63, -(2**63) - 1, 2**200, 1.0, 1, "a", "\ud800", b"a", Metres(1), Colour.RED]
    + [(1, 2), (1.0, 2), ("a", 1), (1,), (1, 2, 3), (), [1, 2], {1}, float("nan"), (1, (2, None))]
)


def _or_none(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), kind, kind)


def _kinds(*leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[st.SearchStrategy[Any]]:
    """Return strategies of values of one kind each: a leaf, a tuple of leaves, or None at times."""
    leaf = st.sampled_from([*leaves, *map(_or_none, leaves)])
    of_one = leaf | st.lists(leaf, min_size=1, max_size=3).map(lambda each: st.tuples(*each))
    return of_one | of_one.map(_or_none)


# Lists of values of one kind, each its own list.
_items = st.sampled_from(
    [each(kind) for kind in (_ints, _floats, _texts) for each in (_same, _or_none)]
)
_lists = _items.map(lambda each: st.lists(each, max_size=3))
_lists |= _lists.map(_or_none)
_sets = st.sampled_from(
    [_ints, _texts, _or_none(_ints), _or_none(_texts), st.tuples(_ints, _texts)]
)
_sets = _sets.map(lambda each: st.sets(each, max_size=3))
_sets |= _sets.map(_or_none)
_value_kinds = _lists | _sets | _kinds(_ints, _floats, _texts, st.none(), st.binary(max_size=4))
# A nan that is spilled and read back is another object, and so another key.
_key_kinds = _kinds(_ints, _floats.filter(lambda each: each == each), _texts, st.none())


@st.composite
def _records(draw: st.DrawFn, name: str) -> list[Any]:
    """Draw records whose keys and values are of one kind each, but for one of either at times."""
    numbers = st.sampled_from([_ints, _floats])
    if name in OF_TWO:
        kinds = draw(st.tuples(numbers, numbers | st.just(_texts)))
        value = st.tuples(*map(draw(st.sampled_from([_same, _or_none])), kinds))
    else:
        texts = st.just(_texts) if "joined" in name else numbers
        texts = _sets if "union" in name else texts
        value = draw(texts | numbers | numbers.map(_or_none) | _value_kinds)
    key = draw(_key_kinds)
    records = draw(st.lists(st.tuples(key, value), max_size=25))
    records += [
        records[at]
        for at in draw(st.lists(st.integers(0, max(len(records) - 1, 0)), max_size=6))
        if records
    ]
    if records and draw(st.booleans()):
        at = draw(st.integers(0, len(records) - 1))
        records[at] = (draw(_misfits), records[at][1])
    if records and draw(st.booleans()):
        at = draw(st.integers(0, len(records) - 1))
        records[at] = (records[at][0], draw(_misfits))
    return records


# For each of many aggregates.
_FEWER = settings(max_examples=settings.default.max_examples // 3)


@pytest.fixture(autouse=True)
def _read_after_the_first_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle, "_records_before_typed", 1)


@pytest.mark.parametrize("name", ALL)
@_FEWER
@given(data=st.data())
def test_values_merge_as_in_stock(name: str, data: st.DataObject) -> None:
    items = data.draw(_records(name))
    left, right = ours(ALL[name]), stock(ALL[name])
    ends = [outcome(partial(merger.mergeValues, copy.deepcopy(items))) for merger in (left, right)]
    assert ends[0] == ends[1]
    assert_same_items(left.items(), right.items(), ordered=True)


@pytest.mark.parametrize("name", ALL)
@_FEWER
@given(data=st.data())
def test_combiners_merge_as_in_stock(name: str, data: st.DataObject) -> None:
    items, more = data.draw(_records(name)), data.draw(_records(name))
    left, right = ours(ALL[name]), stock(ALL[name])
    ends = []
    for merger in (left, right):
        made = stock(ALL[name])
        outcome(partial(made.mergeValues, copy.deepcopy(items)))
        combiners = list(made.items())
        ends.append(
            [
                outcome(lambda m=merger, c=combiners: m.mergeCombiners(c)),
                outcome(lambda m=merger, c=combiners: m.mergeCombiners(c * 2)),
                outcome(partial(merger.mergeValues, copy.deepcopy(more))),
            ]
        )
    assert ends[0] == ends[1]
    assert_same_items(left.items(), right.items(), ordered=True)


@pytest.mark.parametrize(
    "name",
    sorted(
        set(ALL)
        - {"last then sum", "sum then max", "range", "nested", "extends what is given"}
        # Which run comes first matters, or which record of a run.
        - {"difference", "difference, the other way", "more than twice", "changes", "of three"}
    ),
)
@_FEWER
@given(data=st.data())
def test_runs_merge_as_in_stock(name: str, data: st.DataObject) -> None:
    """Stock merges the same runs: a sum of floats is another one in another order."""
    items = data.draw(_records(name))
    # Python compares a nan in a tuple or set by which object it is, and a spill makes another one.
    if name in {"max", "min"}:
        assume("nan" not in repr([value for _, value in items if isinstance(value, (tuple, list))]))
    if "set" in name or "union" in name:
        assume("nan" not in repr(items))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(items)), max_size=3)))
    chunks = [items[a:b] for a, b in itertools.pairwise([0, *cuts, len(items)])]
    left = ours(ALL[name], partitions=data.draw(st.integers(1, 4)))
    right = stock(ALL[name])
    ends = []
    for chunk in chunks:
        run = stock(ALL[name])
        ends.append([outcome(lambda m=m, c=chunk: m.mergeValues(c)) for m in (left, run)])
        left._spill()
        ends.append(
            [
                ("returned", exact(None)),
                outcome(lambda r=run: right.mergeCombiners(list(r.items()))),
            ]
        )
    if any(ours_end != stock_end for ours_end, stock_end in ends):
        # What fails where runs are merged fails in ours when it is read.
        assert all(a == b for a, b in ends[::2])
        assert outcome(lambda: list(left.items()))[0] == "raised"
        return
    assert_same_items(left.items(), right.items(), ordered=False)


def _formulas(leaves: str) -> st.SearchStrategy[str]:
    """Draw what may be computed of names and numbers."""
    leaf = st.sampled_from([*leaves, "1", "-2", "0.5", "True", "4611686018427387904"])
    # What is multiplied by itself, record by record, has more digits than there is memory for.
    plain = st.sampled_from(["v", "2", "-1.5"])

    def larger(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return (
            st.builds("({} {} {})".format, part, st.sampled_from("+-|&^"), part)
            | st.builds("({} * {})".format, part, plain)
            | st.builds(
                "({} {} {})".format, part, st.sampled_from(["<", "<=", ">", "==", "!="]), part
            )
            | st.builds("({} {} {})".format, part, st.sampled_from(["and", "or"]), part)
            | st.builds("({} if {} else {})".format, part, part, part)
            | st.builds("{}({}, {})".format, st.sampled_from(["max", "min"]), part, part)
            | st.builds("({}({}))".format, st.sampled_from(["-", "not ", "abs"]), part)
        )

    return st.recursive(leaf, larger, max_leaves=5)


_OF_VALUE, _OF_BOTH = _formulas("v"), _formulas("cv")


@settings(max_examples=settings.default.max_examples * 10)
@given(
    formulas=st.tuples(_OF_VALUE, _OF_BOTH, _OF_BOTH),
    values=st.sampled_from([_ints, _floats, st.booleans()]),
    data=st.data(),
)
def test_any_formula_gives_what_python_gives(
    formulas: tuple[str, str, str], values: Any, data: st.DataObject
) -> None:
    create, merge_value, merge_combiners = formulas
    functions = (
        eval(f"lambda v: {create}"),
        eval(f"lambda c, v: {merge_value}"),
        eval(f"lambda c, v: {merge_combiners}"),
    )
    records = st.lists(st.tuples(st.integers(0, 2), values), max_size=12)
    items, more = data.draw(records), data.draw(records)
    if items and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(items) - 1))
        items[at] = (items[at][0], data.draw(_misfits))
    left, right = ours(functions), stock(functions)
    ends = [outcome(partial(merger.mergeValues, items)) for merger in (left, right)]
    assert ends[0] == ends[1]
    assert_same_items(left.items(), right.items(), ordered=True)
    handed = [ours(functions), stock(functions)]
    for merger in handed:
        outcome(partial(merger.mergeValues, more))
    ends = [
        outcome(lambda m=merger, o=other: m.mergeCombiners(o.items()))
        for merger, other in zip((left, right), handed, strict=True)
    ]
    assert ends[0] == ends[1]
    assert_same_items(left.items(), right.items(), ordered=True)


@pytest.mark.parametrize("at", [1, 2, 511, 512, 513, 1023, 1500])
def test_what_is_computed_stops_at_the_record_that_is_too_large(at: int) -> None:
    def product(c: int, v: int) -> int:
        return c * v

    def sums(c: Any, v: int) -> Any:
        return c[0] + 1, c[1] + v * v, c[2] - v

    def merged(a: Any, b: Any) -> Any:
        return a[0] + b[0], a[1] + b[1], a[2] + b[2]

    for functions in ((_same, product, product), (lambda v: (1, v * v, -v), sums, merged)):
        items = [(n % 3, 1) for n in range(1501)]
        items[at] = (items[at][0], 2**62)
        items += [(n % 5, -3) for n in range(700)]
        left, right = ours(functions), stock(functions)
        for merger in (left, right):
            merger.mergeValues(iter(items))
        assert_same_items(left.items(), right.items(), ordered=True)
        left, right = ours(functions, partitions=3), stock(functions)
        for start in range(0, len(items), 600):
            left.mergeValues(items[start : start + 600])
            left._spill()
            run = stock(functions)
            run.mergeValues(items[start : start + 600])
            right.mergeCombiners(list(run.items()))
        assert_same_items(left.items(), right.items(), ordered=False)


def _calls_of(functions: Functions, action: Callable[[], Any]) -> int:
    """Run `action` and return how often one of `functions`, as they are in Python, was called."""
    codes = {function.__code__ for function in functions if hasattr(function, "__code__")}
    calls = 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code in codes

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
    return calls


def _now_and_then(make: Callable[[int], Any]) -> Callable[[int], Any]:
    return lambda n: None if n % 10 == 3 else make(n)


WITH_NONE: dict[str, tuple[str, Callable[[int], Any]]] = {
    "ints appended": ("group", _now_and_then(int)),
    "floats appended": ("group", _now_and_then(float)),
    "texts appended": ("group", _now_and_then(str)),
    "bools appended": ("group", _now_and_then(lambda n: n % 2 == 0)),
    "bytes appended": ("group", _now_and_then(lambda n: b"%d" % n)),
    "tuples appended": ("group", _now_and_then(lambda n: (n, str(n)))),
    "a field of tuples": ("group", lambda n: (n, _now_and_then(str)(n))),
    "lists with None": ("sum", lambda n: [n, _now_and_then(int)(n)]),
    "lists or None": ("first", _now_and_then(lambda n: (n, [n]))),
    "None first": ("group", lambda n: None if n < 700 else n),
    "None last": ("group", lambda n: n if n < 700 else None),
    "the first": ("first", _now_and_then(str)),
    "the last": ("last", _now_and_then(int)),
    "counted": ("count", _now_and_then(int)),
    "the newest of tuples": ("newest", lambda n: (_now_and_then(int)(n), n % 7)),
    "a list and a count": ("with a count", _now_and_then(float)),
    "sets of ints": ("set", _now_and_then(int)),
    "sets of texts": ("set of a list", _now_and_then(lambda n: str(n % 13))),
    "sets of bools, and a 1": ("set from empty", _now_and_then(lambda n: n % 2 == 0)),
    "sets of tuples": ("set from empty", lambda n: (n % 17, _now_and_then(str)(n))),
    "a set and a count": ("set and count", _now_and_then(lambda n: n % 29)),
    "sets put together": ("union", lambda n: {n % 31, _now_and_then(int)(n)}),
    "sets put together by a method": ("union by a method", lambda n: {_now_and_then(str)(n % 31)}),
}


@pytest.mark.parametrize("key", [int, str, lambda n: (n, str(n))], ids=["int", "str", "tuple"])
@pytest.mark.parametrize("name", WITH_NONE)
def test_none_among_values_is_no_reason_to_call_a_function(name: str, key: Any) -> None:
    aggregate, value = WITH_NONE[name]
    functions = ALL[aggregate]

    def records(count: int) -> Iterator[Any]:
        return ((key(n * 7919 % 100), value(n)) for n in range(count))

    left, right = ours(functions), stock(functions)
    for merger in (left, right):
        merger.mergeValues(records(1))
    assert _calls_of(functions, lambda: left.mergeValues(records(1_300))) == 0
    right.mergeValues(records(1_300))
    assert_same_items(left.items(), right.items(), ordered=True)

    # Combiners are handed over as columns, and come back from disk as such.
    again, as_stock = ours(functions), stock(functions)
    again.mergeCombiners([next(left.items())])
    as_stock.mergeCombiners(copy.deepcopy([next(iter(right.items()))]))
    for _ in range(2):
        assert _calls_of(functions, lambda: again.mergeCombiners(left.items())) == 0
        again._spill()
        as_stock.mergeCombiners(copy.deepcopy(list(right.items())))
    found: list[Any] = []
    assert _calls_of(functions, lambda: found.extend(again.items())) == 0
    assert_same_items(found, as_stock.items(), ordered=False)


def test_none_among_keys_is_one_key() -> None:
    def records(make: Callable[[Any], Any]) -> list[Any]:
        return [(make(None if n % 10 == 3 else n % 67 + 1), n) for n in range(1_500)]

    makes: list[Callable[[Any], Any]] = [
        lambda n: n,
        lambda n: n and str(n),
        lambda n: n and (n, n / 2),
        lambda n: (n, "x"),
        lambda n: (1, (n, b"")),
        lambda n: n and n / 2,
    ]
    functions = ALL["sum"]
    for make in makes:
        left, right = ours(functions), stock(functions)
        for merger in (left, right):
            merger.mergeValues([(make(1), 1)])
        assert _calls_of(functions, lambda m=left, f=make: m.mergeValues(records(f))) == 0
        right.mergeValues(records(make))
        assert_same_items(left.items(), right.items(), ordered=True)
        left._spill()
        left.mergeValues(records(make))
        right.mergeValues(records(make))
        assert_same_items(left.items(), right.items(), ordered=False)


@pytest.mark.parametrize("at", [*range(1, 4), 511, 512, 513, 600])
@pytest.mark.parametrize("name", ["sum", "max", "average", "newest"])
def test_a_sum_meets_none_as_python_does(name: str, at: int) -> None:
    def records(none: Any) -> list[Any]:
        of_two = name in OF_TWO
        records = [(n % 7, (n, n) if of_two else n) for n in range(700)]
        records[at : at + 2] = [(99, none), (99, none)]  # the first one may stay as it is
        return records

    ends = []
    left, right = ours(ALL[name]), stock(ALL[name])
    for merger in (left, right):
        end = outcome(partial(merger.mergeValues, records((1, None) if name in OF_TWO else None)))
        ends.append(end)
    assert ends[0] == ends[1]
    assert ends[0][:2] == ("raised", TypeError)
    assert_same_items(left.items(), right.items(), ordered=True)


BATCH = 512  # records that the engine reads before it merges them
SOME_PLACES = [*range(4), 255, *range(BATCH - 3, BATCH + 5), 529]
MISFITS = [(2**63, range(BATCH + 3)), (None, range(BATCH + 3))] + [
    (misfit, SOME_PLACES) for misfit in (1.5, True, "text", (1, 2))
]


@pytest.mark.parametrize(("misfit", "places"), MISFITS, ids=[repr(each) for each, _ in MISFITS])
@pytest.mark.parametrize("side", ["key", "value"])
def test_a_misfit_at_any_record_of_a_batch(misfit: Any, places: list[int], side: str) -> None:
    functions = (_same, max, max) if misfit != (1, 2) or side == "key" else ALL["first"]
    records = [(n * 7919 % 100, n) for n in range(530)]
    for at in places:
        items = list(records)
        items[at] = (misfit, 5) if side == "key" else (items[at][0], misfit)
        left, right = ours(functions), stock(functions)
        ends = [outcome(partial(each.mergeValues, items)) for each in (left, right)]
        assert ends[0] == ends[1]
        assert_same_items(left.items(), right.items(), ordered=True)


@pytest.mark.parametrize("misfit", [2**63, None, 1.5, True, "text", (1, 2)], ids=repr)
@pytest.mark.parametrize("side", ["key", "value"])
@pytest.mark.parametrize("name", ["last", "group"])
def test_a_misfit_among_what_mergers_hand_over(name: str, side: str, misfit: Any) -> None:
    odd = (misfit, 5) if side == "key" else (3, misfit)
    for at in SOME_PLACES:
        parts = [[(n, n) for n in range(at)], [odd], [(n, -n) for n in range(530)]]
        mergers = []
        for make in (ours, stock):
            merger = make(ALL[name])
            for part in parts:
                source = make(ALL[name])
                source.mergeValues(part)
                merger.mergeCombiners(source.items())
            mergers.append(merger)
        assert_same_items(mergers[0].items(), mergers[1].items(), ordered=True)


@pytest.mark.parametrize("at", [*range(4), 511, 512, 513, 600])
def test_an_iterator_that_fails_leaves_what_came_before(at: int) -> None:
    def failing() -> Any:
        for n in range(at):
            yield n % 7, n
        raise LookupError("gone")

    left, right = ours(ALL["sum"]), stock(ALL["sum"])
    for merger in (left, right):
        with pytest.raises(LookupError, match="gone"):
            merger.mergeValues(failing())
    assert_same_items(left.items(), right.items(), ordered=True)


def test_sums_go_beyond_64_bits_and_come_back() -> None:
    big = 2**63 - 1
    items = [(key, value) for value in (big, big, 1, -big, -5) for key in range(700)]
    left, right = ours(ALL["sum"]), stock(ALL["sum"])
    for end in (2 * 700, 3 * 700, len(items)):
        for merger in (left, right):
            merger.mergeValues(items[:end])
        assert_same_items(left.items(), right.items(), ordered=True)
        left._spill()
        assert_same_items(left.items(), right.items(), ordered=False)
        left, right = ours(ALL["sum"]), stock(ALL["sum"])


@pytest.mark.parametrize(
    "merge_combiners",
    [lambda a, b: a, lambda a, b: b, operator.add, lambda a, b: a + [0], lambda a, b: b + a],
    ids=["first", "last", "joined", "with one more", "the other way"],
)
def test_a_long_list_is_cut_only_where_pieces_are_joined(merge_combiners: Any) -> None:
    functions = (lambda v: [v], _append, merge_combiners)
    left, right = ours(functions), stock(functions)
    for count in (200_000, 10):
        run = stock(functions)
        for merger in (left, run):
            merger.mergeValues((0, n) for n in range(count))
        left._spill()
        right.mergeCombiners(list(run.items()))
    assert_same_items(left.items(), right.items(), ordered=False)


@pytest.mark.parametrize("piece", ["ab", "é\U0001f980", b"\xff\0"], ids=["ascii", "wide", "bytes"])
@pytest.mark.parametrize("longer", [False, True], ids=["plain", "with a separator"])
def test_long_texts_are_joined_of_many_pieces(piece: Any, longer: bool) -> None:
    comma = piece[:0] + piece[:1]

    def add(c: Any, v: Any) -> Any:
        return c + comma + v

    functions = (_same, add if longer else operator.add, operator.add)
    left, right = ours(functions, partitions=3), stock(functions)
    # Ones that no column would read, and ones that are cut where they are spilled.
    for count in (3_000, 70_000):
        items = [(n % 3 if n % 5 else 0, piece) for n in range(count)]
        run = stock(functions)
        run.mergeValues(items)
        handed = ours(functions)
        handed.mergeValues(items)
        assert_same_items(handed.items(), run.items(), ordered=True)
        left.mergeCombiners(handed.items())
        right.mergeCombiners(list(run.items()))
        left._spill()
    assert_same_items(left.items(), right.items(), ordered=False)


EDGES = [2**63 - 1, -(2**63), 2**62, -(2**62) - 1, 2**53, -(2**53) - 1, 1, -1]


@pytest.mark.parametrize("name", ["sum", "fold", "average", "last then sum", "max", "min"])
def test_ints_at_the_edges_of_64_bits(name: str) -> None:
    sequences = list(itertools.product(EDGES, repeat=3))
    records = [(key, values[at]) for at in range(3) for key, values in enumerate(sequences)]
    left, right = ours(ALL[name]), stock(ALL[name])
    for merger in (left, right):
        merger.mergeValues(records)
    assert_same_items(left.items(), right.items(), ordered=True)
    # Those beyond stand among those within where they are handed over.
    again, as_stock = ours(ALL[name]), stock(ALL[name])
    for merger, source in ((again, left), (as_stock, right)):
        merger.mergeCombiners([next(iter(source.items()))])
        for _ in range(2):
            merger.mergeCombiners(source.items())
    assert_same_items(again.items(), as_stock.items(), ordered=True)


@pytest.mark.parametrize("name", ["sum", "fold", "average", "range", "last", "concatenated"])
def test_ints_and_floats_that_meet_where_floats_are_short_of_bits(name: str) -> None:
    ints = [2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
    floats = [1.0, 2.0**53, -(2.0**53) - 2, 2.0**63, -0.0]
    for values in itertools.product(ints + floats, repeat=3):
        left, right = ours(ALL[name]), stock(ALL[name])
        for merger in (left, right):
            merger.mergeValues([(key, value) for value in values for key in (1, 2)])
        assert_same_items(left.items(), right.items(), ordered=True)


def test_what_comes_behind_a_record_that_fails_is_not_merged() -> None:
    def product(c: Any, v: Any) -> Any:
        return c * v

    functions = (lambda v: v - 1, product, product)
    for later in ((3, 4), (3, None), ("b", 2)):
        records = [(0, 2**40), (1, 5), (0, 2**29), (0, 2**10), (4, "fails"), (0, 3), later]
        left, right = ours(functions), stock(functions)
        ends = [outcome(partial(each.mergeValues, records)) for each in (left, right)]
        assert ends[0] == ends[1]
        assert ends[0][0] == "raised"
        assert_same_items(left.items(), right.items(), ordered=True)


def test_functions_that_change_are_heard() -> None:
    calls = []

    def add(one: int, other: int) -> int:
        calls.append(other)
        return one + other

    merger = ours(ALL["sum"])
    merger.mergeValues((n % 3, 1) for n in range(2000))
    merger.agg = shuffle.Aggregator(_same, add, add)
    merger.mergeValues([(0, 10), (3, 10), (4, 1)])
    assert calls == [10]
    assert dict(merger.items()) == {0: 677, 1: 667, 2: 666, 3: 10, 4: 1}


def _one_record_again_and_again() -> Iterator[Any]:
    record = (0, [1])
    for _ in range(5):
        yield record


def _one_tuple_for_two_keys() -> Iterator[Any]:
    yield 9, ([7], 1)
    combiner = ([1], 1)
    for key in (0, 0, 1, 1, 0):
        yield key, combiner


def _a_tuple_before_and_others_after() -> Iterator[Any]:
    combiner = ([1], 1)
    yield 0, combiner
    yield 1, combiner
    del combiner
    yield 0, ([7], 1)
    yield 1, ([8], 1)


def _a_list_that_comes_back() -> Iterator[Any]:
    values = [1]
    yield 0, values
    yield 1, [2]
    yield 0, [5]
    yield 0, values


def _over_and_over() -> Iterator[Any]:
    records = [(9, [9]), (0, [1]), (1, [2])]
    return itertools.chain(records, records, records)


class _Same:
    """An iterator that gives the record it has."""

    def __init__(self) -> None:
        self.record = (0, [1])
        self.left = 5

    def __iter__(self) -> _Same:
        return self

    def __next__(self) -> Any:
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.record


@pytest.mark.parametrize("before", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("name", "records"),
    [
        ("group", _one_record_again_and_again),
        ("group", lambda: itertools.repeat((0, [1]), 4)),
        ("group", _over_and_over),
        ("group", lambda: filter(None, [(0, [1]), (1, [2])] * 3)),
        ("group", _Same),
        ("group", _a_list_that_comes_back),
        ("lists and counts", _one_tuple_for_two_keys),
        ("lists and counts", _a_tuple_before_and_others_after),
    ],
)
def test_a_list_that_may_come_again_is_not_copied(
    name: str, records: Callable[[], Any], before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffle, "_records_before_typed", before)
    functions = {
        "group": ALL["group"],
        "lists and counts": (
            lambda v: ([v], 1),
            lambda c, v: (_append(c[0], v), c[1] + 1),
            lambda a, b: (_extend(a[0], b[0]), a[1] + b[1]),
        ),
    }[name]
    left, right = ours(functions), stock(functions)
    for merger in (left, right):
        merger.mergeCombiners(records())
    assert_same_items(left.items(), right.items(), ordered=True)


@pytest.mark.parametrize("merge_value", [max, min, lambda a, b: b], ids=["max", "min", "last"])
def test_a_first_sum_beyond_64_bits_is_compared_as_it_is(merge_value: Any) -> None:
    functions = (lambda v: 9223372036854775807 + v, merge_value, max)
    left, right = ours(functions), stock(functions)
    for merger in (left, right):
        merger.mergeValues([(9, -5), (0, 1), (0, 5), (1, 0), (1, -7)])
    assert_same_items(left.items(), right.items(), ordered=True)


def test_functions_that_were_replaced_merge_what_was_spilled() -> None:
    merger = ours(ALL["sum"])
    for _ in range(2):
        merger.mergeValues([(n % 3, n) for n in range(100)])
        merger._spill()
    merger.agg = shuffle.Aggregator(_same, operator.add, lambda a, b: max(a, b) * 1000)
    expected = {key: 1000 * sum(range(key, 100, 3)) for key in range(3)}
    assert dict(merger.items()) == expected


def test_an_interrupt_while_a_misfit_is_merged_leaves_every_key_once() -> None:
    class Interrupt(BaseException):
        pass

    def raised(signum: int, frame: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGINT, raised)
    try:
        merger = ours((lambda v: [v], _append, operator.add))
        merger.mergeValues([(n, n) for n in range(5)])
        values = itertools.chain([1] * 3, map(_thread.interrupt_main, [signal.SIGINT]))
        with contextlib.suppress(Interrupt):
            merger.mergeValues(zip(range(4), values, strict=False))
        merger.mergeValues([("y", 1)])
    finally:
        signal.signal(signal.SIGINT, before)
    keys = [key for key, _ in merger.items()]
    assert keys == [0, 1, 2, 3, 4, "y"]


@pytest.mark.parametrize("value", ["x" * (1 << 20), "é" * (1 << 20), [0.5] * (1 << 17)])
def test_long_values_that_no_step_looks_at_are_not_copied(value: Any) -> None:
    run_alone(
        f"""
        import resource
        from ferroshuffle import shuffle
        shuffle._records_before_typed = 1
        value = {value[:1]!r} * {len(value)}
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        used = peak()
        merger = shuffle.InMemoryMerger(
            shuffle.Aggregator(lambda v: 1, lambda c, v: c + 1, lambda a, b: a + b)
        )
        merger.mergeValues((n % 10, value) for n in range(3000))
        assert dict(merger.items()) == dict.fromkeys(range(10), 300)
        assert peak() < used + 40, (used, peak())
        """
    )


def test_reading_groups_while_they_grow() -> None:
    left, right = ours(ALL["group"]), stock(ALL["group"])
    for merger in (left, right):
        merger.mergeValues((n % 50, n) for n in range(2000))
        for turn in range(30):
            merger.mergeValues([(turn, turn)])
            assert sum(len(values) for _, values in merger.items()) == 2001 + turn
    assert_same_items(left.items(), right.items(), ordered=True)


def test_a_table_that_would_be_too_large_as_objects_is_spilled_first() -> None:
    run_alone(
        """
        from pathlib import Path
        from ferroshuffle import shuffle
        shuffle._records_before_typed = 1
        limit = shuffle.get_used_memory() + 100
        merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(lambda a, b: a + b), limit)
        merger.mergeValues((n, n + 2**40) for n in range(1_000_000))
        assert merger.spills == 0, "the typed table fits"
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        merger.mergeValues([("misfit", 1), (5, 1)])
        assert merger.spills == 1, merger.spills
        [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
        peak = int(line.split()[1]) >> 10
        assert peak < 1.2 * limit, (limit, peak)
        items = dict(merger.items())
        assert len(items) == 1_000_001 and items["misfit"] == 1 and items[5] == 2**40 + 6
        """
    )


class _Broken:
    """An iterator that raises where an exception stands among its records, and can go on."""

    def __init__(self, records: list[Any]) -> None:
        self._records = iter(records)

    def __iter__(self) -> _Broken:
        return self

    def __next__(self) -> Any:
        record = next(self._records)
        if isinstance(record, Exception):
            raise record
        return record


def _too_large_for_floats(c: float, v: int) -> Any:
    return c - v * v * v * v * v * v * v * v * v * v * v * v * v * v * v * v * v * v


GOING_ON: dict[str, tuple[Functions, list[Any]]] = {
    # Beyond 64 bits there, which Python's own ints are not, but its floats are.
    "an int that no float holds": (
        (lambda v: v * 1.0, _too_large_for_floats, operator.add),
        [2**62, 2**40],
    ),
    "an int beyond 64 bits": ((_same, lambda c, v: c + v * v, operator.add), [2**62, 2**31]),
    "None in a sum": ((_same, operator.add, operator.add), [None]),
    "a text in a sum": ((_same, operator.add, operator.add), ["x"]),
}


@pytest.mark.parametrize("name", GOING_ON)
@pytest.mark.parametrize("with_none", [False, True])
@settings(max_examples=30)
@given(data=st.data())
def test_who_goes_on_after_an_exception_misses_no_record(
    name: str, with_none: bool, data: st.DataObject
) -> None:
    functions, bad = GOING_ON[name]
    length = data.draw(st.sampled_from([5, 600, 1100]))
    records: list[Any] = [(n % 3, 1) for n in range(length)]
    if with_none:
        # The column holds None then.
        records[0] = (7, None)
    breaks = st.sampled_from([*((1, value) for value in bad), (1, 2, 3), None, KeyError("broken")])
    for at in data.draw(st.lists(st.integers(1, length - 1), max_size=6)):
        records[at] = data.draw(breaks)
    left, right = ours(functions), stock(functions)
    iterators = [_Broken(records), _Broken(records)]
    for _ in range(len(records)):
        ends = [
            outcome(partial(merger.mergeValues, iterator))
            for merger, iterator in zip((left, right), iterators, strict=True)
        ]
        assert ends[0] == ends[1]
        assert_same_items(left.items(), right.items(), ordered=True)
        if ends[0] == outcome(lambda: None):
            break
        if data.draw(st.integers(0, 3)) == 0:
            # Another one in between.
            for merger in (left, right):
                merger.mergeValues(iter([(9, 5)]))


def test_what_was_read_behind_an_exception_is_let_go() -> None:
    functions, [too_large, _] = GOING_ON["an int that no float holds"]
    mergers = []
    for _ in range(10):
        merger = ours(functions)
        records = _Broken([(1, 1), (1, 1), (1, too_large), (1, 1), KeyError("broken")])
        with pytest.raises(OverflowError):
            merger.mergeValues(records)
        mergers.append(weakref.ref(merger))
        del merger, records
    gc.collect()
    assert [merger() for merger in mergers] == [None] * 10
