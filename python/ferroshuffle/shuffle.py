"""Aggregate, group and sort records that may be larger than memory.

This module has the names, signatures and behaviour of ``pyspark.shuffle``; the work is done in
Rust. It is used without PySpark as well: every class takes any iterable.

Memory limits are in MiB and are about the resident set of the whole process. What does not fit
goes to the directories of the environment variable ``SPARK_LOCAL_DIRS`` (or ``SPARK_LOCAL_DIR``,
comma-separated; ``/tmp`` where neither is set), in files that have no name and so cannot be left
behind.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from ferroshuffle import _core
from ferroshuffle.settings import is_enabled

if TYPE_CHECKING:
    from ferroshuffle.serializers import AutoSerializer

__all__ = [
    "Aggregator",
    "AutoSerializer",
    "DiskBytesSpilled",
    "ExternalGroupBy",
    "ExternalList",
    "ExternalListOfList",
    "ExternalMerger",
    "ExternalSorter",
    "GroupByKey",
    "InMemoryMerger",
    "MemoryBytesSpilled",
    "Merger",
    "SimpleAggregator",
    "get_used_memory",
]

C = TypeVar("C")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: Bytes of memory that were freed by spilling, since the process began or since it was set to 0.
MemoryBytesSpilled = 0

#: Bytes that were written to disk by spilling, since the process began or since it was set to 0.
DiskBytesSpilled = 0

# How many records a merger takes before it reads the functions of its aggregator, and a sorter
# before it reads its key function, to compute what they do by itself; None for never. Reading takes
# as long as calling them some thousand times.
_records_before_typed: int | None = 4096


def _count_spilled(memory_bytes: int, disk_bytes: int) -> None:
    """Add to the counters of this module and to those that a Spark worker reports."""
    modules = [sys.modules[__name__]]
    spark = sys.modules.get("pyspark.shuffle")
    if spark is not None and spark is not modules[0]:
        modules.append(spark)
    for module in modules:
        module.MemoryBytesSpilled += memory_bytes  # type: ignore[attr-defined]
        module.DiskBytesSpilled += disk_bytes  # type: ignore[attr-defined]


def get_used_memory() -> int:
    """Return the resident set of this process in MiB."""
    return _core.resident_bytes() >> 20


def _get_local_dirs(sub: str) -> list[str]:
    """Return the directories to spill to, in an order of their own at each call."""
    setting = os.environ.get("SPARK_LOCAL_DIRS") or os.environ.get("SPARK_LOCAL_DIR") or ""
    # A setting that names no directory is taken for none.
    dirs = [d for d in setting.split(",") if d.strip()] or ["/tmp"]
    paths = [os.path.join(d, "python", str(os.getpid()), sub) for d in dirs]
    # Not the random module: a user's seed must give the user's numbers.
    return sorted(paths, key=lambda _: os.urandom(8))


def _parse_memory(s: str) -> int:
    """Return the MiB of a memory string such as ``512m`` or ``2g``; bytes and KiB round down.

    Raises `ValueError` where `s` does not end in one of ``k``, ``m``, ``g``, ``t``, ``b``.

    Examples
    --------
    >>> _parse_memory("256m"), _parse_memory("2g")
    (256, 2048)
    """
    units = {"b": 1 / (1 << 20), "k": 1 / 1024, "m": 1, "g": 1024, "t": 1 << 20}
    unit = s[-1:].lower()
    if unit not in units:
        raise ValueError(f"invalid memory size {s!r}: give a number and one of b, k, m, g, t")
    return int(float(s[:-1]) * units[unit])


def _stop_iteration_error(exc: StopIteration) -> BaseException:
    """Return what PySpark raises in place of a `StopIteration` of a user's function."""

    def raise_again(*_: object) -> NoReturn:
        raise exc

    try:
        from pyspark.util import fail_on_stopiteration
    except ImportError:
        return RuntimeError(
            f"StopIteration was raised by a function of the aggregator: {exc}. It would end the "
            "loop over the records in silence; catch it within the function."
        )
    try:
        fail_on_stopiteration(raise_again)()
    except RuntimeError as error:
        return error
    return exc


def _unpack(record: Any) -> tuple[Any, Any]:
    """Unpack a record that is no tuple of two, or raise what unpacking it raises."""
    key, value = record
    return key, value


def _compressed_serializer(serializer: Any = None) -> Any:
    """Return a serializer for batches of records, whatever `serializer` is, as stock does."""
    try:
        from pyspark import serializers
    except ImportError:
        from ferroshuffle.serializers import AutoSerializer

        return AutoSerializer()
    spark: Any = serializers
    return spark.AutoBatchedSerializer(spark.CompressedSerializer(spark.CPickleSerializer()))


class Aggregator(Generic[C, V]):
    """The three functions that make combiners of values and merge them.

    A `StopIteration` that one of them raises becomes a `RuntimeError`.

    Parameters
    ----------
    createCombiner : callable
        ``(value) -> combiner``, for the first value of a key.
    mergeValue : callable
        ``(combiner, value) -> combiner``; may change and return its first argument.
    mergeCombiners : callable
        ``(combiner, combiner) -> combiner``; may change and return its first argument.
    """

    #: Where what is counted of the shuffle goes that merges by it, a `ShuffleMetrics`.
    metrics: Any = None

    def __init__(
        self,
        createCombiner: Callable[[V], C],
        mergeValue: Callable[[C, V], C],
        mergeCombiners: Callable[[C, C], C],
    ):
        self.createCombiner: Callable[[V], C] = _core.StopIterationGuard(createCombiner)
        self.mergeValue: Callable[[C, V], C] = _core.StopIterationGuard(mergeValue)
        self.mergeCombiners: Callable[[C, C], C] = _core.StopIterationGuard(mergeCombiners)

    def __copy__(self) -> Aggregator[C, V]:
        """Return another one of the same functions, which are not read now but when it is used."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Send along what the functions compute: reading them once will do for all workers."""
        # That of a shuffle is called where it was sent to, and nowhere else.
        plan = _plan(self, is_sent=self.metrics is not None)
        return {**self.__dict__, "_read": (_functions(self), plan)}


def _counters(aggregator: Any) -> _core.Counters | None:
    metrics = getattr(aggregator, "metrics", None)
    return getattr(metrics, "counters", None)


def _functions(aggregator: Any) -> list[Callable[..., Any]]:
    return [aggregator.createCombiner, aggregator.mergeValue, aggregator.mergeCombiners]


def _plan(aggregator: Any, is_sent: bool = False) -> Any:
    """Return what the functions compute, for the engine, or None where they are to be called."""
    if _records_before_typed is None or not is_enabled():
        return None
    from ferroshuffle.native import plan

    return plan(aggregator, is_sent)


def _was_read(aggregator: Any) -> Any:
    """Return the plan that came with an aggregator, in a tuple, if its functions are the same."""
    functions, plan = getattr(aggregator, "_read", ((), None))
    if not functions or any(
        one is not other for one, other in zip(functions, _functions(aggregator), strict=True)
    ):
        return None
    return (plan,)


def _records_until_read(aggregator: Any) -> int | None:
    """Return how many records are merged by the functions before they are read; None for all."""
    if _records_before_typed is None:
        return None
    read = _was_read(aggregator)
    if read is None:
        return _records_before_typed
    return None if read[0] is None else 0


def _plan_of(aggregator: Any) -> Any:
    """Return the plan that came with an aggregator, or else the one for its functions."""
    read = _was_read(aggregator)
    return _plan(aggregator) if read is None else read[0]


def _sort_key(function: Callable[[Any], Any]) -> Any:
    """Return what a key function computes, for the engine, or None where it is to be called."""
    from ferroshuffle.native import sort_key

    return sort_key(function)


def _first_check(batch: float) -> int:
    """Return `batch`, which may be any number, as the whole number that the engine takes.

    The engine has a bound of its own on how late it looks at memory.
    """
    return int(min(batch, sys.maxsize)) if batch >= 1 else 1


def _identity(value: Any) -> Any:
    return value


class SimpleAggregator(Aggregator[Any, Any]):
    """An aggregator whose combiners are of the values' type.

    Parameters
    ----------
    combiner : callable
        ``(combiner, value or combiner) -> combiner``
    """

    def __init__(self, combiner: Callable[[V | C, C], C]):
        Aggregator.__init__(self, _identity, combiner, combiner)


class Merger(Generic[K, V, C]):
    """What all mergers have: records go in, one combiner a key comes out.

    Parameters
    ----------
    aggregator : Aggregator
        How combiners are made and merged.
    """

    def __init__(self, aggregator: Aggregator[C, V]):
        self.agg = aggregator

    def mergeValues(self, iterator: Iterable[tuple[K, V]]) -> None:
        """Merge the values of (key, value) records."""
        raise NotImplementedError

    def mergeCombiners(self, iterator: Iterable[tuple[K, C]]) -> None:
        """Merge the combiners of (key, combiner) records."""
        raise NotImplementedError

    def items(self) -> Iterator[tuple[K, C]]:
        """Return an iterator over one (key, combiner) for each key."""
        raise NotImplementedError

    def iteritems(self) -> Iterator[tuple[K, C]]:
        """Return `items()`, by the name it had in the first version of ``pyspark.shuffle``."""
        return self.items()


class InMemoryMerger(Merger[K, V, C]):
    """A merger that never spills.

    Examples
    --------
    >>> merger = InMemoryMerger(SimpleAggregator(lambda x, y: x + y))
    >>> merger.mergeValues([("a", 1), ("b", 2), ("a", 3)])
    >>> list(merger.items())
    [('a', 4), ('b', 2)]
    """

    def __init__(self, aggregator: Aggregator[C, V]):
        Merger.__init__(self, aggregator)
        self._engine = _core.Merger([], 1, False, _counters(aggregator))

    def mergeValues(self, iterator: Iterable[tuple[K, V]]) -> None:
        """Merge the values of (key, value) records."""
        self._engine.merge_values(self, self.agg, iterator, None, 1)

    def mergeCombiners(self, iterator: Iterable[tuple[K, C]]) -> None:
        """Merge the combiners of (key, combiner) records."""
        self._engine.merge_combiners(self, self.agg, iterator, None, 1)

    def items(self) -> Iterator[tuple[K, C]]:
        """Return an iterator over one (key, combiner) for each key, in order of insertion."""
        return self._engine.items()


class ExternalMerger(Merger[K, V, C]):
    """A merger that goes on, on disk, when the process reaches its memory limit.

    Records are merged into one table in memory. At the limit the table is written to disk as a
    run, divided by the hash of the keys into partitions, and emptied. `items()` then merges one
    partition of all runs after the other; a partition that is too large for memory is divided
    again by further bits of the hash. Where nothing was spilled, items come in the order in which
    their keys were first seen.

    Parameters
    ----------
    aggregator : Aggregator
        How combiners are made and merged.
    memory_limit : float
        Limit of the resident set of the process, in MiB.
    serializer : optional
        Kept for compatibility; spilled records are marshalled or pickled in batches.
    localdirs : list of str, optional
        Directories to spill to; by default those of ``SPARK_LOCAL_DIRS``.
    scale : int
        Number of partitions that this merger's records are one of.
    partitions : int
        Number of partitions of a run.
    batch : int
        Number of records to merge before memory is looked at for the first time.

    Raises
    ------
    OSError
        From `mergeValues`, `mergeCombiners` and the items, where no directory takes what has to
        be spilled. What is in memory stays there, and `items()` still gives it.
    CorruptBlockError
        From the items, where a disk gives back other bytes than were written.

    Examples
    --------
    >>> agg = SimpleAggregator(lambda x, y: x + y)
    >>> merger = ExternalMerger(agg, 10)
    >>> N = 10000
    >>> merger.mergeValues(zip(range(N), range(N)))
    >>> assert merger.spills > 0
    >>> sum(v for k, v in merger.items())
    49995000

    >>> merger = ExternalMerger(agg, 10)
    >>> merger.mergeCombiners(zip(range(N), range(N)))
    >>> assert merger.spills > 0
    >>> sum(v for k, v in merger.items())
    49995000
    """

    #: Most partitions that dividing again and again may lead to.
    MAX_TOTAL_PARTITIONS = 4096

    _IS_GROUPING = False

    def __init__(
        self,
        aggregator: Aggregator[C, V],
        memory_limit: float = 512,
        serializer: Any = None,
        localdirs: list[str] | None = None,
        scale: int = 1,
        partitions: int = 59,
        batch: int = 1000,
    ) -> None:
        Merger.__init__(self, aggregator)
        self.memory_limit = memory_limit
        self.serializer = serializer
        self.localdirs = localdirs or _get_local_dirs(str(id(self)))
        self.scale = scale
        self.partitions = partitions
        self.batch = batch
        #: Number of times that the table was written to disk.
        self.spills = 0

    @cached_property
    def _engine(self) -> _core.Merger:
        # Made when it is first used: attributes that are set until then are heard.
        counters = _counters(self.agg)
        return _core.Merger(self.localdirs, self.partitions, self._IS_GROUPING, counters)

    def _next_limit(self) -> float:
        """Return the limit in MiB that holds after a spill."""
        return self.memory_limit

    def _object_size(self, obj: Any) -> int:
        """Return the size of a combiner, in an arbitrary unit."""
        return 1

    def mergeValues(self, iterator: Iterable[tuple[K, V]]) -> None:
        """Merge the values of (key, value) records."""
        self._engine.merge_values(
            self, self.agg, iterator, self.memory_limit, _first_check(self.batch)
        )

    def mergeCombiners(self, iterator: Iterable[tuple[K, C]], limit: float | None = None) -> None:
        """Merge the combiners of (key, combiner) records.

        `limit` is the memory limit in MiB for this call; 0 is no limit.
        """
        if limit is None:
            limit = self.memory_limit
        self._engine.merge_combiners(
            self, self.agg, iterator, limit or None, _first_check(self.batch)
        )

    def _spill(self) -> None:
        """Write the table to disk and empty it."""
        # Counted before it is done: an interrupt that strikes as the engine returns must not
        # leave a run behind that `items` would not look for.
        self.spills += 1
        try:
            memory_bytes, disk_bytes = self._engine.spill()
        except Exception:
            self.spills -= 1  # nothing was written
            raise
        _count_spilled(memory_bytes, disk_bytes)

    def items(self) -> Iterator[tuple[K, C]]:
        """Return an iterator over one (key, combiner) for each key.

        Where nothing was spilled it can be called again, and merging can go on. Spilled items can
        be read once.
        """
        if not self.spills:
            return self._engine.items()
        return self._external_items()

    def _external_items(self) -> Iterator[tuple[K, C]]:
        """Return an iterator over all items, merged partition by partition."""
        return self._engine.external_items(*self._merge_arguments())

    def _recursive_merged_items(self, index: int) -> Iterator[tuple[K, C]]:
        """Return an iterator over the items of partition `index`, which stay where they are."""
        return self._engine.partition_items(index, *self._merge_arguments())

    def _merge_arguments(
        self,
    ) -> tuple[Any, tuple[float, int, int, int], Callable[[int, int], None]]:
        limits = (
            self._next_limit(),
            self.scale,
            self.MAX_TOTAL_PARTITIONS,
            self._split_key_limit(),
        )
        return self.agg, limits, _count_spilled

    def _split_key_limit(self) -> int:
        """Return the number of keys up to which a partition is not divided again."""
        return 0

    def _cleanup(self) -> None:
        """Forget what is in memory and on disk."""
        self._engine.clear()


class ExternalSorter(Generic[V]):
    """A sort that goes on, on disk, when the process reaches its memory limit.

    Values are read and sorted in chunks that fit in memory. Sorted chunks are written to disk as
    runs and merged in the end. The sort is stable, in both directions.

    Parameters
    ----------
    memory_limit : float
        Limit of the resident set of the process, in MiB.
    serializer : optional
        Kept for compatibility; spilled values are marshalled or pickled in batches.

    Examples
    --------
    >>> sorter = ExternalSorter(1)
    >>> import random
    >>> l = list(range(1024))
    >>> random.shuffle(l)
    >>> sorted(l) == list(sorter.sorted(l))
    True
    >>> sorted(l) == list(sorter.sorted(l, key=lambda x: -x, reverse=True))
    True
    """

    def __init__(self, memory_limit: float, serializer: Any = None):
        self.memory_limit = memory_limit
        self.local_dirs = _get_local_dirs("sort")
        self.serializer = serializer

    def _next_limit(self) -> float:
        """Return the limit in MiB, at the start and after each spill."""
        return self.memory_limit

    def _count_spilled(self, memory_bytes: int, disk_bytes: int) -> None:
        _count_spilled(memory_bytes, disk_bytes)

    def sorted(
        self,
        iterator: Iterable[V],
        key: Callable[[V], Any] | None = None,
        reverse: bool = False,
    ) -> Iterable[V]:
        """Return the values in order: a list, or an iterator where that would be over the limit.

        Values are compared by ``key(value)``, or themselves where there is no key function.
        """
        read_from = _records_before_typed if is_enabled() else None
        return _core.sort_external(self, iterator, key, bool(reverse), self.local_dirs, read_from)


class ExternalList(Generic[V]):
    """A list whose values go to disk in batches; it can be read and appended to.

    Parameters
    ----------
    values : list
        The first values. The list is taken over, not copied.

    Examples
    --------
    >>> l = ExternalList(list(range(100)))
    >>> len(l)
    100
    >>> l.append(10)
    >>> len(l)
    101
    >>> for i in range(20240):
    ...     l.append(i)
    >>> len(l)
    20341
    >>> import pickle
    >>> l2 = pickle.loads(pickle.dumps(l))
    >>> len(l2)
    20341
    >>> list(l2)[100]
    10
    """

    #: Most values that are kept in memory.
    LIMIT = 10240

    def __init__(self, values: list[V]):
        self.values = values
        self.count = len(values)
        self._store: _core.ValueStore | None = None

    def __getstate__(self) -> tuple[list[V], int, bytes]:
        return self.values, self.count, b"" if self._store is None else self._store.to_bytes()

    def __setstate__(self, state: tuple[list[V], int, bytes]) -> None:
        self.values, self.count, serialized = state
        self._store = None
        if serialized:
            self._store = _core.ValueStore(_get_local_dirs("objects"))
            self._store.extend_bytes(serialized)

    def __iter__(self) -> Iterator[V]:
        if self._store is not None:
            yield from self._store
        yield from self.values

    def __len__(self) -> int:
        return self.count

    def append(self, value: V) -> None:
        """Append a value; every `LIMIT` values go to disk together."""
        self.values.append(value)
        self.count += 1
        if len(self.values) >= self.LIMIT:
            self._spill()

    def _spill(self) -> None:
        """Write the values that are in memory to disk."""
        if self._store is None:
            self._store = _core.ValueStore(_get_local_dirs("objects"))
        used = _core.resident_bytes()
        disk_bytes = self._store.append(self.values)
        self.values = []
        _count_spilled(max(used - _core.resident_bytes(), 0), disk_bytes)


class ExternalListOfList(ExternalList[V]):
    """An `ExternalList` of lists, which counts and gives the values within them.

    Examples
    --------
    >>> l = ExternalListOfList([[i, i] for i in range(100)])
    >>> len(l)
    200
    >>> l.append(range(10))
    >>> len(l)
    210
    >>> len(list(l))
    210
    """

    values: list[Any]

    def __init__(self, values: list[list[V]]):
        self.values = values
        self.count = sum(len(value) for value in values)
        self._store = None

    @classmethod
    def _of_store(
        cls, store: _core.ValueStore, values: list[list[V]], count: int
    ) -> ExternalListOfList[V]:
        """Return the list of `count` values, in the lists in `store` and then in `values`."""
        made = cls([])
        made._store, made.values, made.count = store, values, count
        return made

    def append(self, value: Any) -> None:
        """Append a list of values; every `LIMIT` lists go to disk together."""
        count = self.count + len(value)
        ExternalList.append(self, value)
        self.count = count

    def __iter__(self) -> Iterator[V]:
        for values in ExternalList.__iter__(self):
            yield from values  # type: ignore[misc]


class GroupByKey(Generic[K, V]):
    """Groups of an iterator in which the records of a key stand next to each other.

    Parameters
    ----------
    iterator : iterable of (key, list of values)
        Records, those of one key in a row.

    Examples
    --------
    >>> k = [i // 3 for i in range(6)]
    >>> v = [[i] for i in range(6)]
    >>> g = GroupByKey(zip(k, v))
    >>> [(k, list(it)) for k, it in g]
    [(0, [0, 1, 2]), (1, [3, 4, 5])]
    """

    def __init__(self, iterator: Iterable[tuple[K, list[V]]]):
        self.iterator = iterator

    def __iter__(self) -> Iterator[tuple[K, ExternalListOfList[V]]]:
        key: Any = None
        values: ExternalListOfList[V] | None = None
        for k, v in self.iterator:
            if values is not None and k == key:
                values.append(v)
                continue
            if values is not None:
                yield key, values
            key, values = k, ExternalListOfList([v])
        if values is not None:
            yield key, values


class ExternalGroupBy(ExternalMerger[K, V, Any]):
    """A merger whose combiners are lists of values, each of which may be larger than memory.

    It works as `ExternalMerger` does. Where a partition is too large for memory and has few keys,
    dividing it would not help: the values of its keys then stay on disk, and each key comes with
    an `ExternalListOfList` that reads them from there. Keys need not be ordered.

    Parameters are those of `ExternalMerger`; the aggregator's combiners must be sized, and its
    ``mergeCombiners`` must join them.

    Examples
    --------
    >>> agg = Aggregator(lambda v: [v], lambda c, v: c + [v], lambda a, b: a + b)
    >>> merger = ExternalGroupBy(agg, 1000)
    >>> merger.mergeValues([("a", 1), (None, 2), ("a", 3)])
    >>> [(key, list(values)) for key, values in merger.items()]
    [('a', [1, 3]), (None, [2])]
    """

    #: A partition of no more keys than this is not divided again.
    SORT_KEY_LIMIT = 1000

    _IS_GROUPING = True

    def _object_size(self, obj: Any) -> int:
        return len(obj)

    def _split_key_limit(self) -> int:
        return self.SORT_KEY_LIMIT


def __getattr__(name: str) -> Any:
    if name == "AutoSerializer":  # loaded when asked for: it looks for PySpark
        from ferroshuffle.serializers import AutoSerializer

        return AutoSerializer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
