"""Sorts give what stock gives, partition by partition, from as few passes over the records."""

from __future__ import annotations

import itertools
import pickle
import re
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from py4j.protocol import Py4JJavaError
from pyspark import RDD, SparkContext

import ferroshuffle
from ferroshuffle import _core
from ferroshuffle.native import sort_key
from ferroshuffle.spark import sorts

from . import sessions

HUGE = 2**70


def _pairs(sc: SparkContext, keys: list[Any], partitions: int) -> RDD:
    return sc.parallelize(list(zip(keys, itertools.count())), partitions)


def _one_full(sc: SparkContext) -> RDD:
    """Have nearly all records in the last of five partitions, where few are drawn at first."""
    keys = [n * 7_919 % 20_011 for n in range(20_000)]
    full = sc.parallelize(list(zip(keys, itertools.count())), 1)
    return sc.union([*(_pairs(sc, [n], 1) for n in range(4)), full])


RECORDS: dict[str, Callable[[SparkContext], RDD]] = {
    "ints": lambda sc: _pairs(sc, [n * 7_919 % 2_003 for n in range(4_000)], 3),
    "few keys": lambda sc: _pairs(sc, [n * n % 7 for n in range(900)], 4),
    "one key": lambda sc: _pairs(sc, [5] * 300, 2),
    "in order": lambda sc: _pairs(sc, list(range(1_500)), 2),
    "a full partition": _one_full,
    "ints and floats": lambda sc: _pairs(sc, [n if n % 3 else n / 2 for n in range(-200, 400)], 3),
    "floats": lambda sc: _pairs(sc, [(n * 37 % 101 - 50) / 8 for n in range(500)] + [-0.0, 0.0], 2),
    "huge ints": lambda sc: _pairs(sc, [HUGE * (n * 7 % 11) for n in range(200)], 2),
    "texts": lambda sc: _pairs(sc, [f"key-{n * 7_919 % 503}" for n in range(900)], 3),
    "texts beyond ASCII": lambda sc: _pairs(sc, [chr(n * 97 % 600 + 40) for n in range(700)], 2),
    "tuples": lambda sc: _pairs(sc, [(n % 5, str(n % 7)) for n in range(300)], 2),
    "None alone": lambda sc: _pairs(sc, [None], 1),
    "records that are lists": lambda sc: sc.parallelize([[n % 9, n] for n in range(90)], 2),
    "longer records": lambda sc: sc.parallelize([(n % 9, n, "more") for n in range(90)], 2),
    "shared lists": lambda sc: sc.parallelize([(n % 9, [[0]] * (n % 3)) for n in range(90)], 2),
    # In one order, whatever was spilled.
    "from a shuffle": lambda sc: (
        _pairs(sc, [n % 97 for n in range(900)], 3).partitionBy(4).mapPartitions(sorted)
    ),
}

KEYS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda key: key,
    "text of it": str,
    "an item": lambda key: key[0],
    "negated": lambda key: -key,
    "remainder": lambda key: key % 10,
    "lower": lambda key: key.lower(),
}


def outcome(sort: Callable[..., RDD], *arguments: Any) -> tuple[str, Any]:
    """Return the partitions' records as texts, or what was raised, here or in a worker."""
    try:
        rdd = sort(*arguments)
        return "records", [list(map(repr, part)) for part in rdd.glom().collect()]
    except Py4JJavaError as error:
        text = str(error.java_exception)
        return "raised", re.search(r"\n(\w+Error)", text)[1]
    except Exception as error:
        return "raised", type(error).__name__


def assert_as_stock(sc: SparkContext, job: Callable[[SparkContext], Any]) -> None:
    assert sessions.on_ferroshuffle(job, sc) == sessions.on_stock(job, sc)


@pytest.mark.parametrize("name", RECORDS)
def test_partitions_are_those_of_stock(sc, name):
    def job(sc: SparkContext) -> Any:
        records = RECORDS[name](sc)
        return outcome(records.sortByKey, True, 3), outcome(records.sortByKey, False, 4)

    assert_as_stock(sc, job)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ints", "texts beyond ASCII", "huge ints", "shared lists"])
def test_so_they_are_where_little_memory_is_left(sc, name):
    with sessions.worker_memory(sc, sessions.TINY_MEMORY):
        assert_as_stock(sc, lambda sc: outcome(RECORDS[name](sc).sortByKey, False, 2))
        assert_as_stock(sc, lambda sc: outcome(RECORDS[name](sc).sortByKey, True, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", KEYS)
def test_keys_by_a_function(sc, name):
    def job(sc: SparkContext) -> Any:
        records = [RECORDS[each](sc) for each in ("ints", "texts", "tuples")]
        return [outcome(each.sortByKey, False, 3, KEYS[name]) for each in records]

    assert_as_stock(sc, job)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ints", "tuples", "from a shuffle", "shared lists"])
def test_sorting_within_partitions(sc, name):
    def job(sc: SparkContext) -> Any:
        records = RECORDS[name](sc)
        sort, again = (
            each.repartitionAndSortWithinPartitions for each in (records, records.partitionBy(2))
        )
        return (
            outcome(sort, 3),
            outcome(sort, 2, lambda key: 1, False),
            outcome(again, 2),
            outcome(sort, 2, hash, True, str),
        )

    assert_as_stock(sc, job)


@pytest.mark.parametrize(
    "keys", [[1, "a", 2, "b"], [None, 1], [(1, None), (1, 2), (1, 3)], [{}, {}]], ids=repr
)
def test_keys_that_have_no_order_raise_as_in_stock(sc, keys):
    def job(sc: SparkContext) -> Any:
        records = _pairs(sc, keys * 20, 2)
        return outcome(records.sortByKey, True, 2), outcome(records.sortByKey, True, 1)

    assert_as_stock(sc, job)
    assert sessions.on_ferroshuffle(job, sc) == (("raised", "TypeError"),) * 2


def test_no_records_and_no_partitions(sc):
    for empty in (lambda sc: sc.parallelize([], 3), lambda sc: sc.emptyRDD()):
        assert_as_stock(sc, lambda sc, empty=empty: outcome(empty(sc).sortByKey, True, 2))


def test_records_are_read_once_to_find_the_bounds(sc):
    read = sc.accumulator(0)

    def counted(record: Any) -> Any:
        read.add(1)
        return record

    def passes(sc: SparkContext) -> int:
        before = read.value
        _pairs(sc, [n * 7 % 1_001 for n in range(1_000)], 4).map(counted).sortByKey(numPartitions=3)
        return (read.value - before) // 1_000

    assert (sessions.on_ferroshuffle(passes, sc), sessions.on_stock(passes, sc)) == (1, 2)


def test_where_a_sort_was_asked_for(sc):
    def job(sc: SparkContext) -> Any:
        pairs = _pairs(sc, list(range(50)), 2)
        sorts = pairs.sortByKey(), pairs.sortBy(str), pairs.repartitionAndSortWithinPartitions(2)
        return [ferroshuffle.explain(each).shuffles[-1] for each in sorts]

    found = sessions.on_ferroshuffle(job, sc)
    names = ["sortByKey", "sortBy", "repartitionAndSortWithinPartitions"]
    assert [each.operation for each in found] == names
    assert all(__file__ in each.call_site for each in found)


def test_a_sort_without_columns(sc, monkeypatch):
    # What a sort itself asks; the shuffle below it is another matter.
    monkeypatch.setattr(sorts, "is_enabled", lambda: False)
    assert_as_stock(sc, lambda sc: outcome(RECORDS["ints"](sc).sortByKey, True, 3))
    assert sorts.plan_of(len) is None


@given(
    st.lists(st.integers(-5, 20) | st.sampled_from(["b", "A", "a", 2**64, 1.5, None, (1, "a")])),
    st.lists(st.sampled_from([3, 7, 0, "a", "B", 2.5, None, True, (1, "b"), 2**64]), max_size=6),
    st.sampled_from([lambda key: key, lambda key: -key, str.lower, str]),
    st.booleans(),
)
def test_a_range_partitioner_bisects_as_python_does(keys, bounds, key, reverse):
    def wanted(each: Any) -> Any:
        place = bisect_left(bounds, key(each))
        return len(bounds) - place if reverse else place

    made = _core.RangePartitioner(bounds, len(bounds) + 1, reverse, key, sort_key(key))
    for partitioner in (
        made,
        pickle.loads(pickle.dumps(made)) if key in (str.lower, str) else made,
    ):
        for each in keys:
            try:
                expected = wanted(each)
            except TypeError as error:
                with pytest.raises(TypeError, match=str(error).replace("(", ".").replace(")", ".")):
                    partitioner(each)
            else:
                assert partitioner(each) == expected
