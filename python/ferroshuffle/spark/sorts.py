"""Sorts: `sortByKey`, `sortBy`, and `repartitionAndSortWithinPartitions`.

Partitions are sorted by `ExternalSorter`, whose key function is read on the driver. Which keys go
to which partition is told by a sample of them, the same as in PySpark, which is drawn in the pass
that counts the records, where PySpark counts in one job and draws in another.

A worker imports this module for its classes, so nothing of PySpark is imported at its top.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ferroshuffle import _core
from ferroshuffle.settings import is_enabled
from ferroshuffle.shuffle import ExternalSorter
from ferroshuffle.spark.rdd import Shuffles, call_site_of_caller

# As in PySpark: how many keys are drawn for each partition of the result, and where numbers start.
_DRAWN = 20.0
_SEED = 1

# How many times its share of the records a partition may have without being read once more.
_TIMES_EVEN = 3


class KeyOfRecord:
    """The sort key of a record: what a function makes of the record's key."""

    def __init__(self, function: Callable[[Any], Any]):
        self.function = function

    def __call__(self, record: Any) -> Any:
        """Return the sort key."""
        return self.function(record[0])


class Sorting:
    """What is done with the records of one partition.

    Parameters
    ----------
    key : callable
        Makes the sort key of a record's key.
    ascending : bool
        The least goes first.
    memory : float
        The memory limit of a worker, in MiB.
    """

    def __init__(self, key: Callable[[Any], Any], ascending: bool, memory: float):
        self.key = KeyOfRecord(key)
        #: What that computes, for who is sent this; None where it is to be called.
        self.plan: Any = None
        self.reverse = not ascending
        self.memory = memory

    def __getstate__(self) -> dict[str, Any]:
        """Send along what the key function computes, as it is now."""
        return {**self.__dict__, "plan": plan_of(self.key.function, is_of_record=True)}

    def __call__(self, records: Iterable[Any]) -> Iterator[Any]:
        """Return the records in order."""
        sorter: ExternalSorter[Any] = ExternalSorter(self.memory * 0.9)
        return iter(
            _core.sort_external(
                sorter,
                records,
                self.key,
                self.reverse,
                sorter.local_dirs,
                plan=self.plan,
                lazily=True,
            )
        )


class Sampling:
    """Counts the records of one partition, and draws some of their keys.

    Parameters
    ----------
    wanted : float
        About how many are drawn, if there are as many.
    """

    def __init__(self, wanted: float):
        self.wanted = wanted

    def __call__(
        self, split: int, records: Iterable[Any]
    ) -> list[tuple[int, list[tuple[float, Any]]]]:
        """Return the number of records; and keys, with the number that each was drawn by."""
        sampler = importlib.import_module("pyspark.rddsampler").RDDSampler(False, 1.0, _SEED)
        sampler.initRandomGenerator(split)
        return [_core.sample_keys(records, sampler.getUniformSample, self.wanted)]


def plan_of(key: Callable[[Any], Any], is_of_record: bool = False) -> Any:
    """Return what a function of a record's key computes: of the record, or of its key.

    None where the function has to be called.
    """
    if not is_enabled():
        return None
    from ferroshuffle.native import sort_key

    return sort_key(key, is_of_record, is_sent=True)


def _itself(key: Any) -> Any:
    return key


def sort_by_key(stock: Callable[..., Any], shuffles: Shuffles) -> Callable[..., Any]:
    """Return the `RDD.sortByKey` that takes the place of PySpark's, which is `stock`."""

    @functools.wraps(stock)
    def sortByKey(  # noqa: N802
        self: Any,
        ascending: bool = True,
        numPartitions: int | None = None,  # noqa: N803
        keyfunc: Callable[[Any], Any] = _itself,
    ) -> Any:
        partitions = self._defaultReducePartitions() if numPartitions is None else numPartitions
        sorting = Sorting(keyfunc, ascending, self._memory_limit())
        if partitions == 1:
            one = self.coalesce(1) if self.getNumPartitions() > 1 else self
            return one.mapPartitions(sorting, preservesPartitioning=True)
        site = call_site_of_caller(self.ctx, "sortByKey")
        with site:
            bounds = _bounds(self, partitions, keyfunc)
        if bounds is None:
            return self
        function = _core.RangePartitioner(
            bounds, partitions, not ascending, keyfunc, plan_of(keyfunc)
        )
        partitioner = shuffles.partitioner(partitions, function)
        shuffled = shuffles.shuffled(self, partitioner, site, sort_key=keyfunc)
        return shuffled.mapPartitions(sorting, preservesPartitioning=True)

    return sortByKey


def repartition_and_sort(stock: Callable[..., Any], shuffles: Shuffles) -> Callable[..., Any]:
    """Return what takes the place of PySpark's `repartitionAndSortWithinPartitions`: of `stock`."""

    @functools.wraps(stock)
    def repartitionAndSortWithinPartitions(  # noqa: N802
        self: Any,
        numPartitions: int | None = None,  # noqa: N803
        partitionFunc: Callable[[Any], int] = shuffles.portable_hash,  # noqa: N803
        ascending: bool = True,
        keyfunc: Callable[[Any], Any] = _itself,
    ) -> Any:
        partitions = self._defaultReducePartitions() if numPartitions is None else numPartitions
        partitioner = shuffles.partitioner(partitions, partitionFunc)
        site = call_site_of_caller(self.ctx, "repartitionAndSortWithinPartitions")
        sorting = Sorting(keyfunc, ascending, self._memory_limit())
        shuffled = self
        if self.partitioner != partitioner:
            shuffled = shuffles.shuffled(self, partitioner, site, sort_key=keyfunc)
        return shuffled.mapPartitions(sorting, preservesPartitioning=True)

    return repartitionAndSortWithinPartitions


def _bounds(rdd: Any, partitions: int, key: Callable[[Any], Any]) -> list[Any] | None:
    """Return the bounds that PySpark draws for so many partitions; None if there is no record.

    PySpark counts the records, and draws a fraction of them that gives so many keys for each
    partition of the result: those for which a number from 0 to 1 is below the fraction. Each task
    draws the same numbers here while it counts, and keeps more keys than are going to be needed.
    """
    wanted = _DRAWN * partitions
    inputs = rdd.getNumPartitions()
    kept = wanted * min(1.0, _TIMES_EVEN / max(inputs, 1))
    samples = rdd.mapPartitionsWithIndex(Sampling(kept)).collect()
    records = sum(count for count, _ in samples)
    if not records:
        return None
    fraction = min(wanted / records, 1.0)
    if any(count and kept / count < fraction for count, _ in samples):
        # One of the tasks had more than its share, and has not kept all that are needed.
        drawn = rdd.sample(False, fraction, _SEED).map(_first).collect()
    else:
        drawn = [each for _, keys in samples for number, each in keys if number < fraction]
    drawn.sort(key=key)
    return [drawn[int(len(drawn) * part / partitions)] for part in range(1, partitions)]


def _first(record: Any) -> Any:
    return record[0]
