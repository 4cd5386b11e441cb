"""What is computed over columns: stock's result, whatever comes and wherever it comes."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferroshuffle import shuffle
from tests.compat.aggregators import ours, stock
from tests.compat.exact import assert_same_items, exact, outcome
from tests.compat.values import Colour, Metres, any_text

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
OF_TWO: dict[str, Functions] = {
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


def _kinds(*leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[st.SearchStrategy[Any]]:
    """Return strategies of values of one kind each: a leaf, or a tuple of leaves."""
    leaf = st.sampled_from(leaves)
    return leaf | st.lists(leaf, min_size=1, max_size=3).map(lambda each: st.tuples(*each))


# Lists of values of one kind, each its own list.
_lists = st.sampled_from([_ints, _floats, _texts]).map(lambda each: st.lists(each, max_size=3))
_value_kinds = _lists | _kinds(_ints, _floats, _texts, st.none())
# A nan that is spilled and read back is another object, and so another key.
_key_kinds = _kinds(_ints, _floats.filter(lambda each: each == each), _texts, st.none())


@st.composite
def _records(draw: st.DrawFn, name: str) -> list[Any]:
    """Draw records whose keys and values are of one kind each, but for one of either at times."""
    numbers = st.sampled_from([_ints, _floats])
    if name in OF_TWO:
        kinds = draw(st.tuples(numbers, numbers | st.just(_texts)))
        value = st.tuples(*kinds)
    else:
        value = draw(numbers | numbers | _value_kinds)
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
    ends = [outcome(lambda m=merger: m.mergeValues(items)) for merger in (left, right)]
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
        outcome(lambda m=made: m.mergeValues(items))
        combiners = list(made.items())
        ends.append(
            [
                outcome(lambda m=merger, c=combiners: m.mergeCombiners(c)),
                outcome(lambda m=merger, c=combiners: m.mergeCombiners(c * 2)),
                outcome(lambda m=merger: m.mergeValues(more)),
            ]
        )
    assert ends[0] == ends[1]
    assert_same_items(left.items(), right.items(), ordered=True)


@pytest.mark.parametrize(
    "name", sorted(set(ALL) - {"last then sum", "sum then max", "range", "nested"})
)
@_FEWER
@given(data=st.data())
def test_runs_merge_as_in_stock(name: str, data: st.DataObject) -> None:
    """Stock merges the same runs: a sum of floats is another one in another order."""
    items = data.draw(_records(name))
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


MISFITS = [2**63, None, 1.5, True, "text", (1, 2)]


@pytest.mark.parametrize("misfit", MISFITS, ids=repr)
@pytest.mark.parametrize("side", ["key", "value"])
def test_a_misfit_at_any_record_of_a_batch(misfit: Any, side: str) -> None:
    functions = (_same, max, max) if misfit != (1, 2) or side == "key" else ALL["first"]
    records = [(n * 7919 % 100, n) for n in range(530)]
    for at in [*range(4), 255, *range(509, 517), 529]:
        items = list(records)
        items[at] = (misfit, 5) if side == "key" else (items[at][0], misfit)
        left, right = ours(functions), stock(functions)
        ends = [outcome(partial(each.mergeValues, items)) for each in (left, right)]
        assert ends[0] == ends[1]
        assert_same_items(left.items(), right.items(), ordered=True)


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
