"""Errors of the user's functions: the same error as in stock, and nothing lost before it."""

from __future__ import annotations

import copy
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferroshuffle import shuffle
from tests.compat import values
from tests.compat.aggregators import COLLECT, Functions, StockAggregator, ours, stock
from tests.compat.exact import assert_same_items


class Refused(Exception):
    """What the user's function raises: an object, not only a type, that must come through."""


def functions_raising(stage: str, at: int, error: BaseException) -> Functions:
    """Collecting functions, of which the one of `stage` raises at its call number `at`."""
    calls = 0

    def count(name: str) -> None:
        nonlocal calls
        if name == stage:
            calls += 1
            if calls == at:
                raise error

    def create(value: Any) -> list[Any]:
        count("create")
        return [value]

    def merge_value(combiner: list[Any], value: Any) -> list[Any]:
        count("value")
        combiner.append(value)
        return combiner

    def merge_combiners(left: list[Any], right: list[Any]) -> list[Any]:
        count("combiners")
        return left + right

    return create, merge_value, merge_combiners


def feed(merger: Any, stage: str, items: list[Any]) -> None:
    if stage == "combiners":
        merger.mergeCombiners((key, [value]) for key, value in items)
    else:
        merger.mergeValues(items)


@given(
    values.records(key=values.small_ints, max_size=40),
    st.sampled_from(["create", "value", "combiners"]),
    st.integers(1, 12),
)
def test_a_function_raising_at_record_n_leaves_what_stock_leaves(
    items: list[Any], stage: str, at: int
) -> None:
    error = Refused(stage, at)
    ends, rests = [], []
    left, right = (
        ours(functions_raising(stage, at, error)),
        stock(functions_raising(stage, at, error)),
    )
    for merger in (left, right):
        source = iter(copy.deepcopy(items))
        try:
            feed(merger, stage, source)  # type: ignore[arg-type]
            ends.append(None)
        except Refused as raised:
            ends.append(raised)
        rests.append(len(list(source)))
    assert ends[0] is ends[1]
    assert rests[0] == rests[1], "not as many records were taken from the input"
    assert_same_items(left.items(), right.items(), ordered=True)


@pytest.mark.parametrize("stage", ["create", "value", "combiners"])
@pytest.mark.parametrize("at", [1, 2, 700, 1_500])
def test_the_error_comes_through_as_the_same_object_with_its_traceback(stage: str, at: int) -> None:
    error = Refused("once")
    merger = ours(functions_raising(stage, at, error))
    with pytest.raises(Refused) as caught:
        feed(merger, stage, [(n // 2, n) for n in range(4_000)])
    assert caught.value is error
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-1] == "count"
    assert {"create": "create", "value": "merge_value", "combiners": "merge_combiners"}[
        stage
    ] in names
    error.__traceback__ = None


@pytest.mark.parametrize("stage", ["create", "value", "combiners"])
@pytest.mark.parametrize("spilled", [False, True])
def test_merging_goes_on_after_an_error(stage: str, spilled: bool) -> None:
    merger = ours(functions_raising(stage, 3, Refused()), partitions=3)
    merger.mergeValues([("before", 0)])
    if spilled:
        merger._spill()
    with pytest.raises(Refused):
        feed(merger, stage, [(n // 2 % 10, n) for n in range(30)])
    feed(merger, "value", [("after", 1), ("before", 2)])
    result = dict(merger.items())
    assert result["after"] == [1]
    assert result["before"] == [0, 2]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("stage", ["create", "value", "combiners"])
def test_errors_that_are_not_exceptions_come_through_too(
    kind: type[BaseException], stage: str
) -> None:
    error = kind(3)
    merger = ours(functions_raising(stage, 2, error))
    with pytest.raises(kind) as caught:
        feed(merger, stage, [("a", 1), ("a", 2), ("a", 3), ("b", 4)])
    assert caught.value is error
    assert dict(merger.items())["a"][0] == 1


@pytest.mark.parametrize("stage", ["create", "value", "combiners"])
def test_stop_iteration_of_a_function_is_a_runtime_error(stage: str) -> None:
    stop = StopIteration("too early")
    left, right = ours(functions_raising(stage, 1, stop)), stock(functions_raising(stage, 1, stop))
    messages = []
    for merger in (left, right):
        with pytest.raises(RuntimeError) as caught:
            feed(merger, stage, [("a", 1), ("a", 2), ("b", 1)])
        messages.append(str(caught.value))
        cause = caught.value.__cause__ or caught.value.__context__
        assert cause is stop
    assert "StopIteration" in messages[0]
    assert "too early" in messages[0]
    assert_same_items(left.items(), right.items(), ordered=True)


def test_stop_iteration_while_runs_are_merged_is_a_runtime_error() -> None:
    # A bare StopIteration would end the reading early, silently.
    merger = ours(functions_raising("combiners", 1, StopIteration()), partitions=1)
    for _ in range(2):
        merger.mergeValues([("a", 1), ("b", 2)])
        merger._spill()
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(merger.items())


@pytest.mark.parametrize("which", ["createCombiner", "mergeValue", "mergeCombiners"])
def test_an_aggregator_s_functions_can_be_called_through_its_attributes(which: str) -> None:
    for build in (shuffle.Aggregator, StockAggregator):
        aggregator = build(*COLLECT)
        arguments = {"createCombiner": (1,), "mergeValue": ([0], 1), "mergeCombiners": ([0], [1])}
        expected = {"createCombiner": [1], "mergeValue": [0, 1], "mergeCombiners": [0, 1]}
        assert getattr(aggregator, which)(*arguments[which]) == expected[which]


class CallableObject:
    def __call__(self, *arguments: Any) -> Any:
        return arguments

    def method(self, *arguments: Any) -> Any:
        return [self is not None, *arguments]


ODD_CALLABLES: dict[str, Functions] = {
    "builtins": (str, "{}{}".format, max),
    "bound methods": (CallableObject().method, CallableObject().method, CallableObject().method),
    "callable objects": (CallableObject(), CallableObject(), CallableObject()),
    "classes": (values.Basket, values.Pair, values.Point),
    "with defaults": (
        lambda v, extra=1: [v, extra],
        lambda c, v, extra=2: [c, v, extra],
        lambda a, b, *rest, **named: (a, b, rest, named),
    ),
}


@pytest.mark.parametrize("name", sorted(ODD_CALLABLES))
@pytest.mark.parametrize("method", ["mergeValues", "mergeCombiners"])
def test_callables_of_every_sort(name: str, method: str) -> None:
    left, right = ours(ODD_CALLABLES[name]), stock(ODD_CALLABLES[name])
    for merger in (left, right):
        getattr(merger, method)([("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")])
    assert_same_items(left.items(), right.items(), ordered=True)


@pytest.mark.parametrize("stage", ["create", "value", "combiners"])
def test_functions_with_the_wrong_number_of_arguments_raise_stock_s_error(stage: str) -> None:
    functions = (lambda: 1, lambda c: c, lambda a: a)
    working = dict(zip(("create", "value", "combiners"), COLLECT, strict=True))
    working[stage] = dict(zip(working, functions, strict=True))[stage]
    messages = []
    for build in (ours, stock):
        merger = build(tuple(working.values()))
        with pytest.raises(TypeError) as caught:
            feed(merger, stage, [("a", 1), ("a", 2)])
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_an_aggregator_with_one_function_that_is_not_callable() -> None:
    for build in (ours, stock):
        merger = build((lambda v: v, None, None))
        merger.mergeValues([("a", 1)])
        with pytest.raises(TypeError, match="'NoneType' object is not callable"):
            merger.mergeValues([("a", 1)])
        assert list(merger.items()) == [("a", 1)]


def test_functions_may_read_the_merger_s_attributes_meanwhile() -> None:
    seen = []
    merger: Any = None

    def look(combiner: Any, value: Any) -> Any:
        seen.append((merger.spills, merger.memory_limit, merger.partitions))
        return combiner

    merger = ours((lambda v: v, look, look))
    merger.mergeValues([("a", 1), ("a", 2)])
    assert seen == [(0, merger.memory_limit, 59)]


def test_functions_may_use_other_mergers_meanwhile() -> None:
    def nested(combiner: Any, value: Any) -> Any:
        inner = ours(COLLECT)
        inner.mergeValues([(0, combiner), (0, value)])
        inner._spill()
        return sum(next(inner.items())[1])

    merger = ours((lambda v: v, nested, nested), partitions=2)
    merger.mergeValues([("a", n) for n in range(20)])
    merger._spill()
    merger.mergeValues([("a", n) for n in range(20)])
    assert list(merger.items()) == [("a", 380)]


def test_a_function_that_replaces_the_aggregator_s_function_meanwhile_is_heard_next_time() -> None:
    results = []
    for build in (ours, stock):
        merger = build((lambda v: v, lambda c, v: c + v, lambda a, b: a + b))
        merger.mergeValues([("a", 1), ("a", 2)])
        merger.agg = type(merger.agg)(lambda v: v, lambda c, v: c * v, lambda a, b: a * b)
        merger.mergeValues([("a", 5)])
        merger.mergeCombiners([("a", 2)])
        results.append(list(merger.items()))
    assert results[0] == results[1] == [("a", 30)]
