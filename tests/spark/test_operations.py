"""Every key-value operation of RDD gives stock's result, in memory and spilling."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from pyspark import RDD, SparkContext

from . import sessions

# Equal keys of several types are one key, as in a dict; others cannot be ordered among each other.
MIXED_KEYS = [
    *(None, 0, 1, True, 1.0, -0.0, 2.5, 2**70, -1, "", "a", "ä", b"a"),
    *((), (1, "x"), (None,), ("a", (1, 2.0)), frozenset([1, 2]), "b" * 300),
]


class Point:
    """An object that only pickle can carry, from this module."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __add__(self, other: Point) -> Point:
        return Point(self.x + other.x)

    def __repr__(self) -> str:
        return f"Point({self.x})"


def numbers(sc: SparkContext) -> RDD:
    return sc.parallelize([(n * 7919 % 613, n) for n in range(6_000)], 3)


def few(sc: SparkContext) -> RDD:
    return sc.parallelize([(n % 40, str(n)) for n in range(60)], 2)


def more(sc: SparkContext) -> RDD:
    return sc.parallelize([(n % 50 + 20, n) for n in range(70)], 3)


def mixed(sc: SparkContext) -> RDD:
    return sc.parallelize([(MIXED_KEYS[n * n % len(MIXED_KEYS)], n) for n in range(3_000)], 3)


def append(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def extend(values: list[Any], others: list[Any]) -> list[Any]:
    values.extend(others)
    return values


def as_list(value: Any) -> list[Any]:
    return [value]


def add_pairs(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]


def sorted_groups(grouped: RDD) -> list[Any]:
    """Collect (key, iterables) with each iterable in an order of its own."""
    return grouped.mapValues(lambda groups: [sorted(g, key=repr) for g in groups]).collect()


def cached_twice(rdd: RDD) -> list[Any]:
    grouped = rdd.groupByKey().cache()
    try:
        first = grouped.mapValues(len).collect()
        return first + grouped.mapValues(lambda group: sorted(group)).collect()
    finally:
        grouped.unpersist()


# In any order; a spill changes the order of stock's results, too.
UNORDERED: dict[str, Callable[[SparkContext], Any]] = {
    "combineByKey": lambda sc: (
        numbers(sc).combineByKey(as_list, append, extend).mapValues(sorted).collect()
    ),
    "combineByKey into tuples": lambda sc: (
        numbers(sc)
        .combineByKey(lambda v: (v, 1), lambda c, v: (c[0] + v, c[1] + 1), add_pairs)
        .collect()
    ),
    "reduceByKey": lambda sc: numbers(sc).reduceByKey(operator.add).collect(),
    "reduceByKey, opaque function": lambda sc: (
        numbers(sc).reduceByKey(lambda a, b: a + b if a or b else 0).collect()
    ),
    "reduceByKey, mixed keys": lambda sc: mixed(sc).reduceByKey(operator.add).collect(),
    "reduceByKey to huge integers": lambda sc: (
        numbers(sc).mapValues(lambda v: v << 61).reduceByKey(operator.add).collect()
    ),
    "reduceByKey of objects": lambda sc: (
        numbers(sc).mapValues(Point).reduceByKey(operator.add).mapValues(repr).collect()
    ),
    "reduceByKey of one key": lambda sc: (
        numbers(sc).map(lambda kv: ("only", kv[1])).reduceByKey(operator.add).collect()
    ),
    "reduceByKey into more partitions": lambda sc: (
        numbers(sc).reduceByKey(operator.add, 7).glom().map(sorted).collect()
    ),
    "reduceByKey with a partitioner": lambda sc: (
        numbers(sc).reduceByKey(operator.add, 4, lambda k: k // 9).glom().map(sorted).collect()
    ),
    "reduceByKey of nothing": lambda sc: (
        numbers(sc).filter(lambda _: False).reduceByKey(operator.add).collect()
    ),
    "reduceByKeyLocally": lambda sc: list(numbers(sc).reduceByKeyLocally(operator.add).items()),
    "foldByKey": lambda sc: numbers(sc).foldByKey(0, operator.add).collect(),
    "foldByKey with a mutable zero": lambda sc: (
        numbers(sc).mapValues(as_list).foldByKey([], extend).mapValues(sorted).collect()
    ),
    "aggregateByKey": lambda sc: (
        numbers(sc).aggregateByKey((0, 0), lambda c, v: (c[0] + v, c[1] + 1), add_pairs).collect()
    ),
    "aggregateByKey into sets": lambda sc: (
        mixed(sc)
        .aggregateByKey(set(), lambda s, v: s.add(v % 10) or s, operator.or_)
        .mapValues(sorted)
        .collect()
    ),
    "aggregateByKey into sets of ints": lambda sc: (
        numbers(sc)
        .aggregateByKey(set(), lambda s, v: s.add(v) or s, operator.or_)
        .mapValues(sorted)
        .collect()
    ),
    "reduceByKey of sets": lambda sc: (
        few(sc)
        .mapValues(lambda v: {v, "x", None})
        .reduceByKey(lambda a, b: a | b)
        .reduceByKey(lambda a, b: a.union(b), 3)
        .mapValues(lambda united: sorted(united, key=repr))
        .collect()
    ),
    "groupByKey": lambda sc: numbers(sc).groupByKey().mapValues(sorted).collect(),
    "groupByKey, mixed keys": lambda sc: mixed(sc).groupByKey().mapValues(sorted).collect(),
    "groupByKey, len": lambda sc: numbers(sc).groupByKey().mapValues(len).collect(),
    "groupByKey, sum": lambda sc: numbers(sc).groupByKey().mapValues(sum).collect(),
    "groupByKey, len of mixed": lambda sc: mixed(sc).groupByKey().mapValues(len).collect(),
    "groupByKey, sets": lambda sc: mixed(sc).groupByKey().mapValues(set).collect(),
    "groupByKey, a function of the program": lambda sc: (
        numbers(sc).groupByKey().mapValues(lambda group: (len(group), min(group))).collect()
    ),
    "groupByKey, mapped twice": lambda sc: (
        numbers(sc).groupByKey().mapValues(len).mapValues(str).reduceByKey(max).collect()
    ),
    "aggregateByKey into sets, len": lambda sc: (
        numbers(sc)
        .aggregateByKey(set(), lambda s, v: s.add(v % 10) or s, operator.or_)
        .mapValues(len)
        .collect()
    ),
    "lengths of lists, once more by key": lambda sc: (
        numbers(sc)
        .groupByKey()
        .mapValues(len)
        .map(lambda kv: (kv[1], kv[0]))
        .groupByKey()
        .mapValues(sorted)
        .collect()
    ),
    "map, filter and flatMap around a shuffle": lambda sc: (
        numbers(sc)
        .filter(lambda kv: kv[1] % 3)
        .flatMap(lambda kv: [kv, (kv[0] + 1, -kv[1])])
        .flatMapValues(range)
        .reduceByKey(operator.add)
        .map(lambda kv: (kv[0] // 2, kv[1]))
        .collect()
    ),
    "actions that call a function": lambda sc: [
        numbers(sc).values().reduce(max),
        numbers(sc).values().fold(0, operator.add),
        numbers(sc).values().aggregate([], lambda c, v: c + [v][: 1 - v % 2], operator.add)[:9],
        numbers(sc).keys().treeReduce(min),
        numbers(sc).values().treeAggregate(0, operator.add, operator.add),
    ],
    "groupByKey, collected": lambda sc: [
        (k, type(group).__name__, len(group), sorted(group))
        for k, group in numbers(sc).groupByKey().collect()
    ],
    "groupByKey, cached": lambda sc: cached_twice(numbers(sc)),
    "groupBy": lambda sc: (
        sc.parallelize(range(500), 3).groupBy(lambda n: n % 7).mapValues(sorted).collect()
    ),
    "distinct": lambda sc: mixed(sc).keys().distinct().collect(),
    "distinct of pairs": lambda sc: numbers(sc).union(numbers(sc)).distinct().collect(),
    "countByKey": lambda sc: list(mixed(sc).countByKey().items()),
    "countByValue": lambda sc: list(mixed(sc).keys().countByValue().items()),
    "keys and values of partitionBy": lambda sc: (
        mixed(sc).partitionBy(5).glom().map(lambda part: sorted(part, key=repr)).collect()
    ),
    "join": lambda sc: few(sc).join(more(sc)).collect(),
    "join, mixed keys": lambda sc: (
        mixed(sc).reduceByKey(max).join(mixed(sc).reduceByKey(min)).collect()
    ),
    "leftOuterJoin": lambda sc: few(sc).leftOuterJoin(more(sc)).collect(),
    "rightOuterJoin": lambda sc: few(sc).rightOuterJoin(more(sc)).collect(),
    "fullOuterJoin": lambda sc: few(sc).fullOuterJoin(more(sc)).collect(),
    "cogroup": lambda sc: sorted_groups(few(sc).cogroup(more(sc))),
    "groupWith": lambda sc: sorted_groups(few(sc).groupWith(more(sc), numbers(sc))),
    "subtractByKey": lambda sc: few(sc).subtractByKey(more(sc)).collect(),
    "subtract": lambda sc: numbers(sc).keys().subtract(more(sc).keys()).collect(),
    "intersection": lambda sc: numbers(sc).keys().intersection(more(sc).keys()).collect(),
    "values made twice from one shuffle": lambda sc: (
        numbers(sc)
        .reduceByKey(operator.add)
        .map(lambda kv: (kv[1] % 11, kv[0]))
        .groupByKey()
        .mapValues(sorted)
        .collect()
    ),
}

# In order, partition by partition.
ORDERED: dict[str, Callable[[SparkContext], Any]] = {
    "sortByKey": lambda sc: numbers(sc).sortByKey().glom().collect(),
    "sortByKey, descending": lambda sc: numbers(sc).sortByKey(False, 4).glom().collect(),
    "sortByKey, one partition": lambda sc: numbers(sc).sortByKey(True, 1).collect(),
    "sortByKey, keyfunc": lambda sc: (
        numbers(sc).sortByKey(True, 3, keyfunc=lambda k: k * 17 % 613).glom().collect()
    ),
    "sortByKey, tuples": lambda sc: (
        numbers(sc).map(lambda kv: ((kv[0] % 5, str(kv[1])), kv[0])).sortByKey().collect()
    ),
    "sortBy": lambda sc: numbers(sc).sortBy(lambda kv: (-kv[0], kv[1])).glom().collect(),
    "sortBy, descending": lambda sc: few(sc).sortBy(lambda kv: kv[1], ascending=False).collect(),
    "repartitionAndSortWithinPartitions": lambda sc: (
        numbers(sc)
        .repartitionAndSortWithinPartitions(3, lambda k: k % 3, ascending=False)
        .glom()
        .collect()
    ),
    "repartitionAndSortWithinPartitions, keyfunc": lambda sc: (
        few(sc).repartitionAndSortWithinPartitions(2, keyfunc=lambda k: k % 10).glom().collect()
    ),
    "top": lambda sc: numbers(sc).top(20),
}

# As dicts keep insertion order, so do stock's results where nothing spilled.
IN_MEMORY_ORDER: dict[str, Callable[[SparkContext], Any]] = {
    "combineByKey": lambda sc: mixed(sc).combineByKey(as_list, append, extend).glom().collect(),
    "reduceByKey": lambda sc: mixed(sc).reduceByKey(operator.add, 2).glom().collect(),
    "groupByKey": lambda sc: mixed(sc).groupByKey().mapValues(list).glom().collect(),
    "distinct": lambda sc: mixed(sc).keys().distinct(2).glom().collect(),
}


@pytest.fixture(scope="module")
def stock(sc: SparkContext) -> Callable[[Callable[[SparkContext], Any]], Any]:
    """Run a job on stock PySpark in memory, and remember what came out."""

    def run(job: Callable[[SparkContext], Any]) -> Any:
        with sessions.worker_memory(sc, sessions.DEFAULT_MEMORY):
            return sessions.on_stock(job, sc)

    return cache(run)


@pytest.fixture(params=[sessions.DEFAULT_MEMORY, sessions.TINY_MEMORY])
def memory(request: pytest.FixtureRequest, sc: SparkContext):
    with sessions.worker_memory(sc, request.param):
        yield request.param


def exact(rows: list[Any]) -> list[str]:
    """Return rows as texts that tell 1, 1.0 and True apart, and -0.0 from 0.0."""
    return [repr(row) for row in rows]


@pytest.mark.parametrize("name", UNORDERED)
def test_results_equal_those_of_stock(sc, memory, stock, name):
    expected = stock(UNORDERED[name])
    assert sorted(exact(sessions.on_ferroshuffle(UNORDERED[name], sc))) == sorted(exact(expected))


@pytest.mark.parametrize("name", ORDERED)
def test_sorted_results_equal_those_of_stock(sc, memory, stock, name):
    expected = stock(ORDERED[name])
    assert exact(sessions.on_ferroshuffle(ORDERED[name], sc)) == exact(expected)


@pytest.mark.parametrize("name", IN_MEMORY_ORDER)
def test_order_equals_stock_where_nothing_spilled(sc, stock, name):
    expected = stock(IN_MEMORY_ORDER[name])
    assert exact(sessions.on_ferroshuffle(IN_MEMORY_ORDER[name], sc)) == exact(expected)


def test_a_job_on_stock_fails_where_a_test_asks_for_ferroshuffle(sc):
    """Without it no test here would tell whose classes ran."""

    def job(sc):
        import ferroshuffle

        ferroshuffle.uninstall()
        return numbers(sc).reduceByKey(operator.add).collect()

    with pytest.raises(Exception, match=r"the worker used pyspark\.shuffle\.ExternalMerger"):
        sessions.on_ferroshuffle(job, sc)
