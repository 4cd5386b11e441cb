"""The three functions that PySpark's own operations shuffle with."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any
from unittest import mock

from pyspark import RDD

Functions = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]


class _Listens:
    """Stands in for an RDD, and notes the functions that an operation would shuffle with."""

    def __init__(self) -> None:
        self.functions: Any = None

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self  # map, mapPartitions, partitionBy, …

    def combineByKey(self, *arguments: Any) -> _Listens:
        self.functions = arguments[:3]
        return self

    def reduceByKey(self, *arguments: Any) -> Any:
        return RDD.reduceByKey(self, *arguments)  # type: ignore[type-var]


def _group_by_key(rdd: Any) -> None:
    def note(*functions: Any) -> None:
        rdd.functions = functions

    with mock.patch.dict(RDD.groupByKey.__globals__, Aggregator=note):
        RDD.groupByKey(rdd, 1)


CALLS: dict[str, Callable[[Any], Any]] = {
    "reduceByKey": lambda rdd: RDD.reduceByKey(rdd, operator.add),
    "reduceByKey of a lambda": lambda rdd: RDD.reduceByKey(rdd, lambda a, b: a + b),
    "foldByKey": lambda rdd: RDD.foldByKey(rdd, 0, operator.add),
    "foldByKey from text": lambda rdd: RDD.foldByKey(rdd, "", lambda a, b: a + b),
    "aggregateByKey": lambda rdd: RDD.aggregateByKey(
        rdd, (0, 0), lambda c, v: (c[0] + v, c[1] + 1), lambda a, b: (a[0] + b[0], a[1] + b[1])
    ),
    "aggregateByKey from a list": lambda rdd: RDD.aggregateByKey(
        rdd, [], lambda c, v: c.append(v) or c, lambda a, b: a.extend(b) or a
    ),
    "combineByKey": lambda rdd: rdd.combineByKey(
        lambda v: (v, 1), lambda c, v: (c[0] + v, c[1] + 1), lambda a, b: (a[0] + b[0], a[1] + b[1])
    ),
    "distinct": lambda rdd: RDD.distinct(rdd),
    "groupByKey": _group_by_key,
}


def from_zero(zero: Any, function: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return the createCombiner that PySpark makes for `aggregateByKey` and `foldByKey`."""

    def create_zero() -> Any:
        return copy.deepcopy(zero)

    return lambda value: function(create_zero(), value)


def functions_of(name: str) -> Functions:
    """Return createCombiner, mergeValue and mergeCombiners of one of `CALLS`."""
    rdd = _Listens()
    CALLS[name](rdd)
    functions: Functions = rdd.functions
    return functions
