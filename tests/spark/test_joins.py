"""Joins and `cogroup` give what stock gives, however their sides are made and partitioned."""

from __future__ import annotations

import gc
import itertools
import operator
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark import RDD, SparkContext
from pyspark.resultiterable import ResultIterable

import ferroshuffle
from ferroshuffle import _core
from ferroshuffle.shuffle import ExternalListOfList

from . import sessions

OPERATIONS: dict[str, Callable[..., Any]] = {
    "join": RDD.join,
    "leftOuterJoin": RDD.leftOuterJoin,
    "rightOuterJoin": RDD.rightOuterJoin,
    "fullOuterJoin": RDD.fullOuterJoin,
    "cogroup": RDD.cogroup,
    "groupWith": lambda left, right: left.groupWith(right),
    "groupWith itself and another": lambda left, right: left.groupWith(left, right),
    "subtractByKey": RDD.subtractByKey,
    "intersection": RDD.intersection,
}

MIXED = [None, 0, 1, True, 1.0, -0.0, 2.5, 2**70, "", "a", b"a", (), (1, "x"), frozenset([1])]


class Pair(tuple[Any, ...]):
    """A pair of a type of its own."""


def _lists(sc: SparkContext) -> tuple[RDD, RDD]:
    shared = [0]
    left = sc.parallelize([(n % 7, shared) for n in range(20)], 2)
    return left, sc.parallelize([(n % 9, [n, None]) for n in range(20)], 3)


def _partitioned_alike(sc: SparkContext) -> tuple[RDD, RDD]:
    left = sc.parallelize([(n % 13, n) for n in range(60)], 3).reduceByKey(operator.add, 4)
    return left, sc.parallelize([(n % 17, str(n)) for n in range(40)], 2).partitionBy(4)


def _half(key: int) -> int:
    return key // 2


SIDES: dict[str, Callable[[SparkContext], tuple[RDD, RDD]]] = {
    "ints": lambda sc: (
        sc.parallelize([(n * 7919 % 61, n) for n in range(300)], 3),
        sc.parallelize([(n % 50 + 20, -n) for n in range(70)], 2),
    ),
    "texts and None": lambda sc: (
        sc.parallelize([(str(n % 11), None if n % 5 == 0 else n) for n in range(90)], 2),
        sc.parallelize([(None if n % 3 == 0 else str(n % 17), str(n)) for n in range(60)], 3),
    ),
    "keys of many types": lambda sc: (
        sc.parallelize([(MIXED[n % len(MIXED)], n) for n in range(50)], 3),
        sc.parallelize([(MIXED[n * n % len(MIXED)], MIXED[n % 9]) for n in range(40)], 2),
    ),
    "tuples, as values are tagged": lambda sc: (
        sc.parallelize([(n % 4, (True, n)) for n in range(20)], 2),
        sc.parallelize([(n % 6, (1, (0, n))) for n in range(20)], 2),
    ),
    "lists": _lists,
    "a side without records": lambda sc: (
        sc.parallelize([(n, n) for n in range(9)], 2),
        sc.parallelize([(1, 1)], 2).filter(lambda _: False),
    ),
    "no record at all": lambda sc: (sc.emptyRDD(), sc.parallelize([], 2)),
    "one without partitions": lambda sc: (sc.emptyRDD(), sc.parallelize([(1, 2)], 2)),
    "longer than pairs": lambda sc: (
        sc.parallelize([(n % 5, n, "lost") for n in range(20)], 2),
        sc.parallelize([[n % 7, n] for n in range(10)] + [Pair((1, 2)), "ab", (3, 4)], 2),
    ),
    "partitioned alike": _partitioned_alike,
    "partitioned alike in a way of its own": lambda sc: (
        sc.parallelize([(n % 13, n) for n in range(60)], 3).partitionBy(3, _half),
        sc.parallelize([(n % 17, -n) for n in range(60)], 2).partitionBy(3, _half),
    ),
    "one partitioned, in another way": lambda sc: (
        sc.parallelize([(n % 13, n) for n in range(60)], 3).reduceByKey(operator.add, 2),
        sc.parallelize([(n % 17, n) for n in range(60)], 2),
    ),
    "one partitioned as the result is": lambda sc: (
        sc.parallelize([(n % 13, n) for n in range(60)], 3).partitionBy(5),
        sc.parallelize([(n % 17, n) for n in range(60)], 5).partitionBy(5, _half),
    ),
    "cached": lambda sc: (
        sc.parallelize([(n % 13, n) for n in range(60)], 3).cache(),
        sc.parallelize([(n % 17, n) for n in range(60)], 2).reduceByKey(max).cache(),
    ),
}


def _plain(value: Any) -> Any:
    """Return a joined value in a form that tells types apart, groups in an order of their own."""
    if isinstance(value, ResultIterable):
        assert len(value) == len(value.data)
        return "group", sorted(map(repr, value))
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return repr(value)


def _found(made: RDD) -> Any:
    by_partition = made.glom().map(lambda rows: sorted(repr(_plain(row)) for row in rows))
    return by_partition.collect(), made.getNumPartitions(), made.partitioner is None


# What the others are made of; all of them have the first sides.
_BASIC = ("join", "fullOuterJoin", "groupWith itself and another")
# With older PySparks only some of them.
_EVERYWHERE = ("ints", "longer than pairs", "partitioned alike")
CASES = [
    pytest.param(sides, name, marks=() if sides in _EVERYWHERE else pytest.mark.slow)
    for sides in SIDES
    for name in (OPERATIONS if sides == "ints" else _BASIC)
]


@pytest.mark.parametrize(("sides", "name"), CASES)
def test_results_and_partitions_are_those_of_stock(sc: SparkContext, sides: str, name: str) -> None:
    def job(sc: SparkContext) -> Any:
        left, right = SIDES[sides](sc)
        return _found(OPERATIONS[name](left, right))

    expected = sessions.on_stock(job, sc)
    for memory in (sessions.DEFAULT_MEMORY, sessions.TINY_MEMORY):
        with sessions.worker_memory(sc, memory):
            assert sessions.on_ferroshuffle(job, sc) == expected


@pytest.mark.parametrize("name", ["join", "cogroup", "subtractByKey"])
def test_the_number_of_partitions_may_be_given(sc: SparkContext, name: str) -> None:
    def job(sc: SparkContext) -> Any:
        return _found(OPERATIONS[name](*SIDES["ints"](sc), 7))

    assert sessions.on_ferroshuffle(job, sc) == sessions.on_stock(job, sc)


def test_rdds_that_are_partitioned_alike_are_joined_without_a_shuffle(sc: SparkContext) -> None:
    with sessions.ferroshuffle_only(sc):
        left, right = _partitioned_alike(sc)
        joined = left.join(right, 4)
        operations = [each.operation for each in ferroshuffle.explain(joined).shuffles]
        assert operations == ["reduceByKey", "partitionBy"]
        assert joined.partitioner == left.partitioner
        again = joined.mapValues(sum_of_lengths).join(left, 4)
        operations = [each.operation for each in ferroshuffle.explain(again).shuffles]
        assert "join" not in operations
        assert again.count() > 0


def sum_of_lengths(pair: Any) -> int:
    return len(str(pair))


def test_a_join_can_be_joined(sc: SparkContext) -> None:
    def job(sc: SparkContext) -> Any:
        left, right = SIDES["ints"](sc)
        joined = left.join(right).leftOuterJoin(right.fullOuterJoin(left)).mapValues(repr)
        return sorted(joined.collect())

    assert sessions.on_ferroshuffle(job, sc) == sessions.on_stock(job, sc)


def test_order_is_that_of_stock_where_nothing_spilled(sc: SparkContext) -> None:
    def job(sc: SparkContext) -> Any:
        left, right = SIDES["ints"](sc)
        return [left.join(right, 3).collect(), left.fullOuterJoin(right).collect()]

    assert sessions.on_ferroshuffle(job, sc) == sessions.on_stock(job, sc)


def test_a_key_without_a_hash_fails_as_in_stock(sc: SparkContext) -> None:
    def job(sc: SparkContext) -> Any:
        left = sc.parallelize([([1], 2), (1, 3)], 1)
        with pytest.raises(Exception, match="unhashable type: 'list'"):
            left.join(left).collect()

    sessions.on_stock(job, sc)
    sessions.on_ferroshuffle(job, sc)


def test_one_key_has_more_pairs_than_memory_holds(sc: SparkContext) -> None:
    """Two thousand values on either side: four million pairs, read one by one."""

    def peak(pairs: Iterator[Any]) -> list[Any]:
        import resource

        count, total = 0, 0
        for _, (left, right) in pairs:
            count += 1
            total += left * right
        return [(count, total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)]

    with sessions.ferroshuffle_only(sc):
        side = sc.parallelize([(0, n) for n in range(2_000)], 2)
        [*_, (count, total, rss_kib)] = sorted(side.join(side, 2).mapPartitions(peak).collect())
    assert (count, total) == (2_000**2, sum(range(2_000)) ** 2)
    assert rss_kib < 256 << 10  # the pairs alone would take twice that


_values = st.integers(0, 3) | st.sampled_from([None, "x", 2.5])
_tagged = st.lists(st.tuples(st.booleans(), _values), max_size=6)


@given(
    groups=st.lists(st.tuples(st.integers(), _tagged), max_size=5),
    keeps=st.tuples(*[st.booleans()] * 2),
)
@settings(max_examples=100)
def test_pairs_of_groups(groups: list[Any], keeps: tuple[bool, bool]) -> None:
    expected = []
    for key, values in groups:
        sides: list[list[Any]] = [[v for tag, v in values if tag is side] for side in (False, True)]
        for side, kept in ((0, keeps[1]), (1, keeps[0])):
            if not sides[side] and kept:
                sides[side] = [None]
        expected += [(key, pair) for pair in itertools.product(*sides)]
    assert list(_core.JoinedRecords.pairs(groups, keeps)) == expected
    grouped = list(_core.JoinedRecords.cogroups(iter(groups), 2, tuple, list))
    by_side = [
        (key, tuple(tuple(v for tag, v in values if tag is side) for side in (False, True)))
        for key, values in groups
    ]
    assert grouped == by_side


def test_a_group_larger_than_memory_stays_on_disk() -> None:
    tagged = [(n % 7 == 0, n) for n in range(30_000)]
    groups = [("a", [(False, 1)]), ("b", iter(tagged)), ("c", [(True, 2)])]
    joined = _core.JoinedRecords.cogroups(iter(groups), 2, ResultIterable, ExternalListOfList)
    [first, (key, (left, right)), last] = joined
    assert key == "b"
    assert isinstance(left.data, ExternalListOfList)
    for side, tag in ((left, False), (right, True)):
        expected = [value for each, value in tagged if each is tag]
        assert (len(side), list(side)) == (len(expected), expected)
    assert [[side.data for side in sides] for _, sides in (first, last)] == [[[1], []], [[], [2]]]


def test_groups_are_read_one_by_one_and_closed() -> None:
    class Value:
        pass

    seen: list[Any] = []

    def groups() -> Iterator[Any]:
        for key in range(3):
            value = Value()
            seen.append(weakref.ref(value))
            yield key, iter([(0, value), (1, value), (2, value)])

    joined = _core.JoinedRecords.cogroups(groups(), 3, list, list)
    assert next(joined)[0] == 0
    assert len(seen) == 1
    joined.close()
    assert list(joined) == []
    gc.collect()
    assert seen[0]() is None
    for bad in ([(0, [(2, 1)])], [(0, [(-1, 1)])], [(0, [("x", 1)])], [(0, [1])]):
        with pytest.raises(RuntimeError, match="side"):
            list(_core.JoinedRecords.pairs(bad, (False, False)))
    for not_groups in ([1], [(1, 2, 3)], [(1, 2)]):
        with pytest.raises((TypeError, ValueError)):
            list(_core.JoinedRecords.pairs(not_groups, (False, False)))  # type: ignore[arg-type]


def test_an_iterator_in_a_cycle_is_collected() -> None:
    class Groups:
        def __iter__(self) -> Iterator[Any]:
            return self

        def __next__(self) -> Any:
            return 1, [(False, self), (True, self)]

    groups = Groups()
    groups.joined = _core.JoinedRecords.pairs(groups, (False, False))  # type: ignore[attr-defined]
    next(groups.joined)  # type: ignore[attr-defined]
    gone = weakref.ref(groups)
    del groups
    gc.collect()
    assert gone() is None
