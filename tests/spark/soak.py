"""Soaks: tens of millions of records of few keys at a small memory limit, with peaks of memory.

`make soak` runs them; they take minutes, and gigabytes of disk, and are no part of `make test`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from pyspark import RDD, SparkContext

from . import sessions

LIMIT_MIB = 256
# What a worker takes before it reads anything.
FLOOR_MIB = 70
MOST_MIB = 1.3 * LIMIT_MIB + FLOOR_MIB

HOT = 40_000_000
SMALL = 1_000_000


def _one_key(sc: SparkContext) -> RDD:
    return sc.range(HOT, numSlices=2).map(lambda n: (0, n))


def _ten_keys_among_many(sc: SparkContext) -> RDD:
    return sc.range(HOT, numSlices=2).map(lambda n: (n + 10 if n < SMALL else n % 10, n))


def _texts_of_one_key(sc: SparkContext) -> RDD:
    return sc.range(HOT // 4, numSlices=2).map(lambda n: (0, f"value-{n}"))


def _objects_of_one_key(sc: SparkContext) -> RDD:
    return sc.range(HOT // 20, numSlices=2).map(lambda n: (0, complex(n, 1)))


def peak_after(read: Callable[[Iterable[Any]], Any]) -> Callable[[Iterator[Any]], list[Any]]:
    """Return what reads a partition, and tells what came of it and the worker's peak in MiB."""

    def peak(records: Iterator[Any]) -> list[Any]:
        found = read(records)
        with open("/proc/self/status") as status:
            [kib] = [line.split()[1] for line in status if line.startswith("VmHWM")]
        return [(found, int(kib) >> 10)]

    return peak


@pytest.fixture
def small(sc: SparkContext) -> Iterator[SparkContext]:
    # A worker's peak is that of all its tasks, so each gets one of its own.
    with sessions.ferroshuffle_only(sc), sessions.worker_memory(sc, f"{LIMIT_MIB}m"):
        reuse = sc._conf.get("spark.python.worker.reuse", "true")
        sc._conf.set("spark.python.worker.reuse", "false")
        started = time.monotonic()
        yield sc
        print(f"{time.monotonic() - started:.0f} s")
        sc._conf.set("spark.python.worker.reuse", reuse)


def checked(made: RDD, read: Callable[[Iterable[Any]], Any]) -> list[Any]:
    """Return what is read of each partition, none of which may take more memory than allowed."""
    [*found] = made.mapPartitions(peak_after(read)).collect()
    print("peaks in MiB:", [peak for _, peak in found])
    assert max(peak for _, peak in found) < MOST_MIB
    return [each for each, _ in found]


READERS: dict[str, Callable[[Any], int]] = {
    "len": len,
    "iteration": lambda group: sum(1 for _ in group),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("made", "values"),
    [
        (_one_key, HOT),
        (_ten_keys_among_many, HOT),
        (_texts_of_one_key, HOT // 4),
        (_objects_of_one_key, HOT // 20),
    ],
    ids=lambda made: getattr(made, "__name__", ""),
)
def test_groups(small, made, values, reader):
    read = READERS[reader]
    found = checked(made(small).groupByKey(2), lambda groups: sum(read(g) for _, g in groups))
    assert sum(found) == values


def test_a_join_of_one_key(small):
    side = small.range(12_000, numSlices=2).map(lambda n: (0, n))
    found = checked(side.join(side, 2), lambda pairs: sum(1 for _ in pairs))
    assert sum(found) == 12_000**2


def test_a_cogroup_of_one_key(small):
    sides = _one_key(small).cogroup(small.parallelize([(0, 1)], 2), 2)
    found = checked(sides, lambda groups: sum(len(left) for _, (left, _) in groups))
    assert sum(found) == HOT


@pytest.mark.parametrize("spread", [1, 3, HOT], ids=["one key", "three keys", "all distinct"])
@pytest.mark.parametrize("ascending", [True, False])
def test_sorts(small, spread, ascending):
    count = HOT // 2
    numbers = small.range(count, numSlices=2).map(lambda n: (n * 2_654_435_761 % spread, n))

    def read(records: Iterable[Any]) -> tuple[int, bool]:
        before, seen, is_sorted = None, 0, True
        for key, _ in records:
            is_sorted &= before is None or (before <= key if ascending else before >= key)
            before, seen = key, seen + 1
        return seen, is_sorted

    found = checked(numbers.sortByKey(ascending, 2), read)
    assert sum(seen for seen, _ in found) == count
    assert all(is_sorted for _, is_sorted in found)
