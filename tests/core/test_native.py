"""Which aggregates the engine computes by itself, and when it is told."""

from __future__ import annotations

import copy
import operator
import pickle
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark import SparkContext, cloudpickle

from ferroshuffle import shuffle
from ferroshuffle.native import plan

VALUE = ("value", [])
KEEP = ("keep",)


def same(value: Any) -> Any:
    return value


def append(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def extend(values: list[Any], others: list[Any]) -> list[Any]:
    values.extend(others)
    return values


def state(create: Any, merge_value: Any, merge_combiners: Any, first: Any = KEEP) -> Any:
    return "state", create, first, merge_value, merge_combiners


ADD = ("add", VALUE)
FIRST, SECOND = ("value", [0]), ("value", [1])
ONE = ("constant", 1)
LIST = ("list", [VALUE])
SET = ("set", [VALUE])
UNION = ("compute", ("operate", "|", ("field", []), VALUE))

PLANS: dict[str, Any] = {
    "sum": ((same, lambda a, b: a + b, lambda a, b: a + b), state(VALUE, ADD, ADD)),
    "operator": ((same, operator.add, operator.add), state(VALUE, ADD, ADD)),
    "swapped": (
        (same, lambda a, b: b + a, lambda a, b: a + b),
        state(VALUE, ("add in front", VALUE), ADD),
    ),
    "average": (
        (
            lambda v: (v, 1),
            lambda c, v: (c[0] + v, c[1] + 1),
            lambda a, b: (a[0] + b[0], a[1] + b[1]),
        ),
        (
            "fields",
            [
                state(VALUE, ADD, ("add", FIRST)),
                state(ONE, ("add", ONE), ("add", SECOND)),
            ],
        ),
    ),
    "fold": ((lambda v: 0 + v, operator.add, operator.add), state(("constant", 0), ADD, ADD, ADD)),
    "first": ((same, lambda a, b: a, lambda a, b: a), state(VALUE, KEEP, KEEP)),
    "last": (
        (same, lambda a, b: b, lambda a, b: b),
        state(VALUE, ("take", VALUE), ("take", VALUE)),
    ),
    "max": (
        (same, max, max),
        state(VALUE, *[("choose", [], "<", VALUE, False, VALUE)] * 2),
    ),
    "newest": (
        (same, *[lambda a, b: a if a[1] > b[1] else b] * 2),
        state(VALUE, *[("choose", [1], ">", SECOND, True, VALUE)] * 2),
    ),
    "group": ((lambda v: [v], append, extend), state(LIST, ("extend", LIST), ("extend", VALUE))),
    "concatenated": (
        (lambda v: [v], lambda c, v: c + [v], operator.add),
        state(LIST, ("add", LIST), ADD),
    ),
    "set": (
        (lambda v: {v}, lambda c, v: c.add(v) or c, lambda a, b: a | b),
        state(SET, ("insert", SET), UNION),
    ),
    "set from empty": (
        (lambda v: set() | {v}, lambda c, v: {v} | c, set.union),
        state(("set", []), ("insert", SET), ("insert", VALUE), ("insert", SET)),
    ),
    "set made larger by a list": (
        (lambda v: {v}, lambda c, v: c.update([v]) or c, lambda a, b: a.update(b) or a),
        state(SET, ("insert", LIST), ("insert", VALUE)),
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_what_is_understood_has_a_plan(name: str) -> None:
    functions, combiner = PLANS[name]
    found = plan(shuffle.Aggregator(*functions))
    assert found == (combiner, [], [], True)


def test_a_plan_tells_where_tuples_of_a_size_are_needed() -> None:
    def pair_sum(one: Any, other: Any) -> Any:
        a, b = one
        c, d = other
        return a + c, b + d

    found = plan(shuffle.SimpleAggregator(pair_sum))
    assert found is not None
    _, of_values, of_combiners, _ = found
    assert set(map(repr, of_values)) == {"([], 2)"}
    assert of_combiners == []  # a combiner has the plan's own number of fields


@pytest.mark.parametrize(
    "merge",
    [
        lambda a, b: {**a, **b},
        lambda a, b: a[-1] + b,
        lambda a, b: a if b in a else b,
        lambda a, b: max(a + b),
        lambda a, b: b.append(a) or b,
        lambda a, b: b.union(a),
        lambda a, b: a.union(b, b),
        lambda a, b: a | {1, (2, b)} | {b[0]},
        lambda a, b: print(a, b),
    ],
)
def test_what_the_engine_does_not_compute_is_called(merge: Any) -> None:
    assert plan(shuffle.Aggregator(same, merge, merge)) is None


@pytest.mark.parametrize("merge", [extend, lambda a, b: a.update(b) or a, operator.ior])
def test_lists_and_sets_that_came_as_values_are_not_changed(merge: Any) -> None:
    found = plan(shuffle.Aggregator(same, merge, merge))
    assert found is not None
    assert found[3] is False


def sent(aggregator: Any) -> Any:
    return pickle.loads(cloudpickle.dumps(aggregator))


def test_a_worker_is_told_what_the_driver_read() -> None:
    aggregator = sent(shuffle.SimpleAggregator(lambda a, b: a + b))
    assert shuffle._records_until_read(aggregator) == 0
    assert shuffle._plan_of(aggregator)[0] == state(VALUE, ADD, ADD)
    merger = shuffle.InMemoryMerger(aggregator)
    merger.mergeValues([("a", 1), ("a", 2)])
    assert list(merger.items()) == [("a", 3)]


def test_a_worker_reads_nothing_again_that_the_driver_did_not_understand() -> None:
    aggregator = sent(shuffle.SimpleAggregator(lambda a, b: a @ b))
    assert shuffle._records_until_read(aggregator) is None


def test_functions_that_were_replaced_on_the_worker_are_read_there() -> None:
    aggregator = sent(shuffle.SimpleAggregator(lambda a, b: a + b))
    aggregator.mergeValue = max
    assert shuffle._records_until_read(aggregator) == shuffle._records_before_typed
    assert shuffle._plan_of(aggregator)[0] == state(VALUE, PLANS["max"][1][3], ADD)


_rebound = max


def test_a_copy_of_an_aggregator_is_read_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle, "_records_before_typed", 1)
    aggregator = copy.copy(shuffle.SimpleAggregator(lambda a, b: _rebound(a, b)))
    monkeypatch.setattr(sys.modules[__name__], "_rebound", operator.add)
    merger = shuffle.InMemoryMerger(aggregator)
    merger.mergeValues((0, n) for n in range(100))
    assert list(merger.items()) == [(0, sum(range(100)))]
    assert type(copy.copy(sent(aggregator))) is shuffle.SimpleAggregator


@pytest.mark.parametrize(
    ("setting", "is_on"), [("false", False), (" False ", False), ("true", True)]
)
def test_a_setting_of_spark_leaves_all_to_the_functions(
    setting: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = SimpleNamespace(_conf={"spark.ferroshuffle.enabled": setting})
    monkeypatch.setattr(SparkContext, "_active_spark_context", context)
    aggregator = sent(shuffle.SimpleAggregator(lambda a, b: a + b))
    assert (shuffle._records_until_read(aggregator) == 0) is is_on


def test_an_aggregator_of_fewer_functions_merges_what_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shuffle, "_records_before_typed", 1)

    class Sums:
        mergeCombiners = staticmethod(operator.add)

    merger = shuffle.InMemoryMerger(Sums())  # type: ignore[arg-type]
    merger.mergeCombiners([(1, 2), (1, 3), (2, 2)])
    assert list(merger.items()) == [(1, 5), (2, 2)]
