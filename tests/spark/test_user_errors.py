"""What user code raises reaches the driver as it does with stock."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from py4j.protocol import Py4JJavaError
from pyspark import RDD, SparkContext

from . import sessions


class OutOfRange(Exception):
    """An exception of the user's own."""


def pairs(sc: SparkContext) -> RDD:
    return sc.parallelize([(n % 10, n) for n in range(2_000)], 2)


def fail(*values: Any) -> NoReturn:
    raise OutOfRange("no place for this value")


def stop(*values: Any) -> NoReturn:
    raise StopIteration("enough")


def late(a: int, b: int) -> int:
    if b == 1_987:
        raise OutOfRange("late in the day")
    return a + b


class Unhashable:
    __hash__ = None


class HostileHash:
    def __hash__(self) -> int:
        raise OutOfRange("this key has no hash")


class HostileEq:
    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise OutOfRange("this key compares with none")


JOBS: dict[str, Callable[[SparkContext], Any]] = {
    "createCombiner": lambda sc: pairs(sc).combineByKey(fail, max, max).collect(),
    "mergeValue": lambda sc: pairs(sc).combineByKey(lambda v: v, fail, max).collect(),
    "mergeValue, late": lambda sc: pairs(sc).reduceByKey(late).collect(),
    "mergeCombiners": lambda sc: pairs(sc).combineByKey(lambda v: v, max, fail).collect(),
    "operator on wrong types": lambda sc: (
        sc.parallelize([(1, 2), (1, "x")], 1).reduceByKey(operator.add).collect()
    ),
    "StopIteration in createCombiner": lambda sc: pairs(sc).combineByKey(stop, max, max).collect(),
    "StopIteration in mergeValue": lambda sc: pairs(sc).reduceByKey(stop).collect(),
    "StopIteration in mergeCombiners": lambda sc: (
        pairs(sc).combineByKey(lambda v: v, max, stop).collect()
    ),
    "iterator": lambda sc: pairs(sc).map(fail).reduceByKey(max).collect(),
    "mapValues": lambda sc: pairs(sc).groupByKey().mapValues(fail).collect(),
    "mapValues of no pairs": lambda sc: sc.parallelize([1, 2], 1).mapValues(max).collect(),
    "StopIteration in mapValues": lambda sc: pairs(sc).mapValues(stop).collect(),
    "StopIteration in map": lambda sc: pairs(sc).map(stop).collect(),
    "StopIteration in filter": lambda sc: pairs(sc).filter(stop).collect(),
    "StopIteration in flatMap": lambda sc: pairs(sc).flatMap(stop).collect(),
    "StopIteration in foreach": lambda sc: pairs(sc).foreach(stop),
    "StopIteration in reduce": lambda sc: pairs(sc).reduce(stop),
    "StopIteration in aggregate": lambda sc: pairs(sc).aggregate(0, stop, max),
    "StopIteration in reduceByKeyLocally": lambda sc: pairs(sc).reduceByKeyLocally(stop),
    "foreach": lambda sc: pairs(sc).foreach(fail),
    "keyfunc": lambda sc: pairs(sc).repartitionAndSortWithinPartitions(2, keyfunc=fail).collect(),
    "keys without an order": lambda sc: (
        sc.parallelize([(1, 1), ("a", 2)], 1).sortByKey(numPartitions=1).collect()
    ),
    "partitionFunc": lambda sc: pairs(sc).reduceByKey(max, 2, fail).collect(),
    "unhashable list": lambda sc: sc.parallelize([([1], 1)], 1).reduceByKey(max).collect(),
    "unhashable dict": lambda sc: sc.parallelize([({}, 1)], 1).groupByKey().collect(),
    "unhashable object": lambda sc: (
        sc.parallelize([(Unhashable(), 1)], 1).reduceByKey(max).collect()
    ),
    "__hash__": lambda sc: (
        sc.parallelize([1], 1).map(lambda n: (HostileHash(), n)).reduceByKey(max).collect()
    ),
    "__eq__": lambda sc: (
        sc.parallelize([1, 2], 1).map(lambda n: (HostileEq(), n)).reduceByKey(max).collect()
    ),
    "not a pair": lambda sc: sc.parallelize([1, 2], 1).reduceByKey(max).collect(),
    "too long for a pair": lambda sc: sc.parallelize([(1, 2, 3)], 1).groupByKey().collect(),
    "too short for a pair": lambda sc: sc.parallelize([(1,)], 1).groupByKey().collect(),
}


def worker_traceback(job: Callable[[SparkContext], Any], sc: SparkContext) -> str:
    """Return the Python traceback that a failing job brings from its worker."""
    with pytest.raises(Py4JJavaError) as caught:
        job(sc)
    message = str(caught.value.java_exception)
    traceback = message[message.index("Traceback (most recent call last)") :]
    # Behind it stand Java's frames, and in PySpark 4 an SQLSTATE.
    return re.split(r"\n+(?:\tat | SQLSTATE)", traceback, maxsplit=1)[0].strip()


def last_line(traceback: str) -> str:
    """Return the line with the exception's class and message."""
    line = traceback.splitlines()[-1]
    assert re.match(r"[\w.]+: .", line), line
    return line


@pytest.mark.parametrize("name", JOBS)
def test_the_exception_is_that_of_stock(sc, name):
    expected = worker_traceback(lambda sc: sessions.on_stock(JOBS[name], sc), sc)
    found = worker_traceback(lambda sc: sessions.on_ferroshuffle(JOBS[name], sc), sc)
    assert last_line(found) == last_line(expected)


@pytest.mark.parametrize("name", ["mergeValue, late", "mergeCombiners", "unhashable list"])
def test_the_exception_is_that_of_stock_where_all_spills(sc, name):
    with sessions.worker_memory(sc, sessions.TINY_MEMORY):
        test_the_exception_is_that_of_stock(sc, name)


def test_the_traceback_leads_into_the_users_function(sc):
    traceback = worker_traceback(lambda sc: sessions.on_ferroshuffle(JOBS["mergeValue"], sc), sc)
    assert ", in fail\n" in traceback
    assert "in combineLocally" in traceback


def test_a_stop_iteration_is_a_runtime_error(sc):
    traceback = worker_traceback(
        lambda sc: sessions.on_ferroshuffle(JOBS["StopIteration in mergeValue"], sc), sc
    )
    assert "RuntimeError: " in last_line(traceback)
    assert "Caught StopIteration thrown from user's code" in last_line(traceback)


def test_the_next_job_on_the_same_workers_succeeds(sc):
    worker_traceback(lambda sc: sessions.on_ferroshuffle(JOBS["mergeValue, late"], sc), sc)
    sums = sessions.on_ferroshuffle(lambda sc: pairs(sc).reduceByKey(operator.add).collect(), sc)
    assert dict(sums) == {k: sum(range(k, 2_000, 10)) for k in range(10)}
