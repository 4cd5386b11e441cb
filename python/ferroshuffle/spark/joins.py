"""Joins and `cogroup`: each side is shuffled by itself, with its number beside each value.

PySpark makes tuples of the number and the value in Python, and passes both sides through the JVM
to bring them together, before it shuffles them. Here the map side of each shuffle puts the number
beside the values, as a column; Spark brings partitions together that are partitioned alike; and
pairs are made of a key's values where they are read.

A worker imports this module for `Grouping`, so nothing of PySpark is imported at its top.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ferroshuffle import _core
from ferroshuffle.shuffle import Aggregator, ExternalGroupBy, ExternalListOfList
from ferroshuffle.spark.rdd import Shuffles, call_site


def _list_of(value: Any) -> list[Any]:
    return [value]


def _append(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def _extend(values: list[Any], others: list[Any]) -> list[Any]:
    values.extend(others)
    return values


def pairs_of(groups: Iterable[Any], keeps: tuple[bool, bool]) -> _core.JoinedRecords:
    """Return (key, (left, right)) of each two values of a key.

    Of `keeps` each tells of a side whether its values are kept for keys that the other side does
    not have, with None in the place of that one's value.
    """
    return _core.JoinedRecords.pairs(groups, keeps)


def iterables_of(groups: Iterable[Any], sides: int) -> _core.JoinedRecords:
    """Return (key, iterables) of a key's values, one `pyspark.ResultIterable` for each side."""
    wrap = importlib.import_module("pyspark.resultiterable").ResultIterable
    return _core.JoinedRecords.cogroups(groups, sides, wrap, ExternalListOfList)


class Grouping:
    """What is done with the records of all sides of one partition.

    Parameters
    ----------
    aggregator : Aggregator
        Makes lists of values.
    memory : float
        The memory limit of a worker, in MiB.
    joined : callable
        Makes the result of each key and its values, tuples of a side's number and a value.
    """

    def __init__(
        self,
        aggregator: Aggregator[Any, Any],
        memory: float,
        joined: Callable[[Iterable[Any]], _core.JoinedRecords],
    ):
        self.aggregator = aggregator
        self.memory = memory
        self.joined = joined

    def __call__(self, records: Iterable[Any]) -> _core.JoinedRecords:
        """Return what is made of the records, (key, (number of the side, value))."""
        merger: ExternalGroupBy[Any, Any] = ExternalGroupBy(self.aggregator, self.memory)
        merger.mergeValues(records)
        return self.joined(merger.items())


def join(
    stock: Callable[..., Any], shuffles: Shuffles, keeps: tuple[bool, bool]
) -> Callable[..., Any]:
    """Return the function that takes the place of one of PySpark's joins, which is `stock`."""

    @functools.wraps(stock)
    def joined(rdd: Any, other: Any, numPartitions: int | None) -> Any:  # noqa: N803
        pairs = functools.partial(pairs_of, keeps=keeps)
        made = _grouped(shuffles, [rdd, other], numPartitions, pairs)
        return stock(rdd, other, numPartitions) if made is None else made

    return joined


def cogroup(stock: Callable[..., Any], shuffles: Shuffles) -> Callable[..., Any]:
    """Return the function that takes the place of PySpark's `python_cogroup`, which is `stock`."""

    @functools.wraps(stock)
    def cogrouped(rdds: Sequence[Any], numPartitions: int | None) -> Any:  # noqa: N803
        rdds = list(rdds)
        iterables = functools.partial(iterables_of, sides=len(rdds))
        made = _grouped(shuffles, rdds, numPartitions, iterables)
        return stock(rdds, numPartitions) if made is None else made

    return cogrouped


def _grouped(
    shuffles: Shuffles,
    rdds: Sequence[Any],
    partitions: int | None,
    joined: Callable[[Iterable[Any]], _core.JoinedRecords],
) -> Any:
    """Return what `joined` makes of the groups of several RDDs; None for it to be done as in stock.

    An RDD that is partitioned already as the result is to be needs no shuffle.
    """
    context = rdds[0].ctx
    if len(rdds) < 2 or not shuffles.makes_blocks(context):
        return None
    if partitions is None:
        partitions = _default_partitions(rdds)
    partitioner = shuffles.partitioner(partitions)
    aggregator: Aggregator[Any, Any] = Aggregator(_list_of, _append, _extend)
    tags = (False, True) if len(rdds) == 2 else range(len(rdds))
    sides = [
        shuffles.tagged(rdd, tag)
        if rdd.partitioner == partitioner
        else shuffles.shuffled(rdd, partitioner, call_site(context), aggregator, tag)
        for rdd, tag in zip(rdds, tags, strict=True)
    ]
    together = functools.reduce(lambda one, other: one.union(other), sides)
    work = Grouping(aggregator, rdds[0]._memory_limit(), joined)
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
