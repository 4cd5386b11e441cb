"""Joins and `cogroup`: each side is shuffled by itself, with its number beside each value.

PySpark makes tuples of the number and the value in Python, and passes both sides through the JVM
to bring them together, before it shuffles them. Here the map side of each shuffle puts the number
beside the values, as a column; Spark brings partitions together that are partitioned alike; and
pairs are made of a key's values where they are read.

A worker imports this module for `Join` and `Cogroup`, so nothing of PySpark is imported at its top.
"""

from __future__ import annotations

import functools
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ferroshuffle import _core
from ferroshuffle.shuffle import Aggregator, ExternalGroupBy


def _list_of(value: Any) -> list[Any]:
    return [value]


def _append(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def _extend(values: list[Any], others: list[Any]) -> list[Any]:
    values.extend(others)
    return values


class _Grouping(ABC):
    """What is done with the records of all sides of one partition.

    Parameters
    ----------
    aggregator : Aggregator
        Makes lists of values.
    memory : float
        The memory limit of a worker, in MiB.
    """

    def __init__(self, aggregator: Aggregator[Any, Any], memory: float):
        self.aggregator = aggregator
        self.memory = memory

    def __call__(self, records: Iterable[Any]) -> _core.JoinedRecords:
        merger: ExternalGroupBy[Any, Any] = ExternalGroupBy(self.aggregator, self.memory)
        merger.mergeValues(records)
        return self.joined(merger.items())

    @abstractmethod
    def joined(self, groups: Iterable[Any]) -> _core.JoinedRecords:
        """Return what is made of each key and its values, tuples of a side's number and a value."""


class Join(_Grouping):
    """Make (key, (left, right)) of each two values of a key.

    Of `keeps` each tells of a side whether its values are kept for keys that the other side does
    not have, with None in the place of that one's value.
    """

    def __init__(self, aggregator: Aggregator[Any, Any], memory: float, keeps: tuple[bool, bool]):
        super().__init__(aggregator, memory)
        self.keeps = keeps

    def joined(self, groups: Iterable[Any]) -> _core.JoinedRecords:
        """Return the pairs of each key's values."""
        return _core.JoinedRecords.pairs(groups, self.keeps)


class Cogroup(_Grouping):
    """Make (key, iterables) of a key's values, one `pyspark.ResultIterable` for each side."""

    def __init__(self, aggregator: Aggregator[Any, Any], memory: float, sides: int):
        super().__init__(aggregator, memory)
        self.sides = sides

    def joined(self, groups: Iterable[Any]) -> _core.JoinedRecords:
        """Return the iterables of each key's values."""
        wrap = importlib.import_module("pyspark.resultiterable").ResultIterable
        return _core.JoinedRecords.cogroups(groups, self.sides, wrap)


def join(stock: Callable[..., Any], shuffles: Any, keeps: tuple[bool, bool]) -> Callable[..., Any]:
    """Return the function that takes the place of one of PySpark's joins, which is `stock`."""

    @functools.wraps(stock)
    def joined(rdd: Any, other: Any, numPartitions: int | None) -> Any:  # noqa: N803
        grouping = functools.partial(Join, keeps=keeps)
        made = _grouped(shuffles, [rdd, other], numPartitions, grouping)
        return stock(rdd, other, numPartitions) if made is None else made

    return joined


def cogroup(stock: Callable[..., Any], shuffles: Any) -> Callable[..., Any]:
    """Return the function that takes the place of PySpark's `python_cogroup`, which is `stock`."""

    @functools.wraps(stock)
    def cogrouped(rdds: Sequence[Any], numPartitions: int | None) -> Any:  # noqa: N803
        rdds = list(rdds)
        grouping = functools.partial(Cogroup, sides=len(rdds))
        made = _grouped(shuffles, rdds, numPartitions, grouping)
        return stock(rdds, numPartitions) if made is None else made

    return cogrouped


def _grouped(
    shuffles: Any,
    rdds: Sequence[Any],
    partitions: int | None,
    grouping: Callable[..., _Grouping],
) -> Any:
    """Return what `grouping` makes of several RDDs; None where that is to be done in stock's way.

    That is where an RDD is partitioned already as the result is to be: it needs no shuffle.
    """
    context = rdds[0].ctx
    if len(rdds) < 2 or not shuffles.makes_blocks(context):
        return None
    if partitions is None:
        partitions = _default_partitions(rdds)
    partitioner = shuffles.partitioner(partitions)
    if any(rdd.partitioner == partitioner for rdd in rdds):
        return None
    aggregator: Aggregator[Any, Any] = Aggregator(_list_of, _append, _extend)
    tags = (False, True) if len(rdds) == 2 else range(len(rdds))
    sides = [
        shuffles.shuffled(rdd, partitioner, shuffles.call_site(context), aggregator, tag)
        for rdd, tag in zip(rdds, tags, strict=True)
    ]
    together = functools.reduce(lambda one, other: one.union(other), sides)
    work = grouping(aggregator, rdds[0]._memory_limit())
    return together.mapPartitions(work, preservesPartitioning=True)


def _default_partitions(rdds: Sequence[Any]) -> int:
    """Return how many partitions PySpark gives what it makes of several RDDs together."""
    context = rdds[0].ctx
    if context._conf.contains("spark.default.parallelism"):
        parallelism: int = context.defaultParallelism
        return parallelism
    first, *others = rdds
    partitions: int = first.getNumPartitions()
    partitioner = first.partitioner
    for rdd in others:
        # Those that are partitioned alike are put together partition by partition.
        if partitioner is None or rdd.partitioner != partitioner:
            partitions += rdd.getNumPartitions()
            partitioner = None
    return partitions
