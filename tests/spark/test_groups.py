"""Long groups: sent in pieces, merged from disk, and read without having all of one in memory."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from pyspark import RDD, SparkContext
from pyspark.shuffle import ExternalMerger, SimpleAggregator

import ferroshuffle

from . import sessions

pytestmark = pytest.mark.slow

# Far more values of one key than are handed over at once.
MANY = 600_000


def skewed(sc: SparkContext) -> RDD:
    """Return pairs of which one key has most, another many, and others a few each."""
    numbers = sc.range(MANY, numSlices=2)
    return numbers.map(lambda n: (n % 1_000 if n % 50 == 0 else 7 + n % 3 // 2, n))


def _append(values: list[int], value: int) -> list[int]:
    values.append(value)
    return values


def _extend(values: list[int], others: list[int]) -> list[int]:
    values.extend(others)
    return values


def told(values: Iterable[Any]) -> Any:
    """Return what tells lists, sets and texts apart, in whatever order their parts came."""
    parts = values.split(",") if isinstance(values, str) else list(values)
    return type(values).__name__, len(parts), sum(map(int, filter(None, parts)))


JOINED: dict[str, Callable[[RDD], RDD]] = {
    "groupByKey": lambda pairs: pairs.groupByKey(3),
    "lists": lambda pairs: pairs.combineByKey(lambda v: [v], _append, _extend, 3),
    "lists with a zero": lambda pairs: pairs.aggregateByKey([0], _append, _extend, 3),
    "lists extended": lambda pairs: pairs.mapValues(lambda v: [v]).reduceByKey(_extend, 3),
    "sets": lambda pairs: pairs.aggregateByKey(
        set(), lambda s, v: s.add(v) or s, lambda a, b: a | b, 3
    ),
    "texts": lambda pairs: pairs.mapValues(lambda v: f"{v},").reduceByKey(operator.add, 3),
}


@pytest.mark.parametrize("memory", [sessions.DEFAULT_MEMORY, sessions.TINY_MEMORY])
@pytest.mark.parametrize("name", JOINED)
def test_long_combiners_are_sent_in_pieces(sc, name, memory):
    def job(sc: SparkContext) -> Any:
        return sorted(JOINED[name](skewed(sc)).mapValues(told).collect())

    with sessions.worker_memory(sc, memory):
        found = sessions.on_ferroshuffle(job, sc)
        shuffle = ferroshuffle.stats(sc).shuffles[-1]
    # What a zero adds depends on how often something was spilled, in PySpark too.
    if name != "lists with a zero" or memory == sessions.DEFAULT_MEMORY:
        assert found == sessions.on_stock(job, sc)
    # Lists that came as values are changed in place, by the function itself.
    is_computed = name != "lists extended"
    assert (shuffle.sent_typed > len(found) * 2) == is_computed


def test_combiners_that_nobody_merges_are_sent_whole(sc):
    """A program that merges and partitions by itself gets a record for each key."""

    def merged(pairs: Iterator[Any]) -> Iterator[Any]:
        merger = ExternalMerger(SimpleAggregator(_extend), 512)
        merger.mergeValues(pairs)
        return merger.items()

    def job(sc: SparkContext) -> Any:
        lists = skewed(sc).mapValues(lambda value: [value])
        sent = lists.mapPartitions(merged).partitionBy(2)
        return sorted((key, told(values)) for key, values in sent.collect())

    assert sessions.on_ferroshuffle(job, sc) == sessions.on_stock(job, sc)


class Salted:
    """Sends keys anywhere."""

    def __init__(self) -> None:
        self.draw = random.Random(1)

    def __call__(self, key: int) -> int:
        return self.draw.randrange(4)


def test_a_partition_function_is_called_once_a_key(sc):
    calls = sc.accumulator(0)

    def counted(key: int) -> int:
        calls.add(1)
        return key

    def job(sc: SparkContext) -> Any:
        pairs = skewed(sc).coalesce(1)
        before = calls.value
        pairs.groupByKey(4, counted).count()
        salted = pairs.groupByKey(4, Salted()).mapValues(len)
        return calls.value - before, sorted(salted.collect())

    assert sessions.on_ferroshuffle(job, sc) == sessions.on_stock(job, sc)


@pytest.mark.parametrize("read", [len, sum, lambda group: sum(1 for _ in group)])
def test_a_group_larger_than_memory_is_read_piece_by_piece(sc, read):
    """Lists of these would take some 200 MiB."""
    count, limit = 5_000_000, 96

    def peak(groups: Iterator[Any]) -> list[Any]:
        import resource

        found = [(key, read(group)) for key, group in groups]
        return [(found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)]

    with sessions.ferroshuffle_only(sc), sessions.worker_memory(sc, f"{limit}m"):
        pairs = sc.range(count, numSlices=2).map(lambda n: (0, n))
        [(found, rss)] = pairs.groupByKey(1).mapPartitions(peak).collect()
    assert found == [(0, count * (count - 1) // 2 if read is sum else count)]
    assert rss < limit * 1.3 + 70  # what a worker takes before it has read anything
