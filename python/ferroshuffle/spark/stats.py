"""What became of the records of the shuffles that have run."""

from __future__ import annotations

import html
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from ferroshuffle.spark.lineage import ExplainedShuffle
from ferroshuffle.spark.metrics import MOST_SHUFFLES, Counts, CountsParam, ShuffleMetrics
from ferroshuffle.spark.table import as_html, as_text

_ON_CONTEXT = "_ferroshuffle_shuffles"

_TIMES = ("aggregate", "partition", "encode", "decode", "spill")

_NANOSECONDS = 1e9

_lock = threading.Lock()


@dataclass(frozen=True)
class ShuffleStats:
    """What is told of one shuffle, in a `Statistics`: the sum over its tasks."""

    #: What is known of it without running it.
    shuffle: ExplainedShuffle
    #: Values that the map side merged over columns.
    values_typed: int
    #: Values that the map side called the functions for.
    values_called: int
    #: Combiners that the reduce side merged over columns.
    combiners_typed: int
    #: Combiners that the reduce side called the functions for.
    combiners_called: int
    #: Records that were sent in columns.
    sent_typed: int
    #: Records that were sent pickled.
    sent_pickled: int
    #: Bytes that were sent.
    sent_bytes: int
    #: Tables that were typed, or should have been, and became tables of objects.
    widenings: int
    #: Why the first of them did, such as ``value is of type NoneType``; None where none did.
    cause: str | None
    #: Records that went to disk, on both sides.
    spilled_records: int
    #: Bytes of memory that this gave back.
    spilled_memory_bytes: int
    #: Bytes that were written for it.
    spilled_disk_bytes: int
    #: Seconds of looking keys up and merging, without those of reading the records.
    aggregate_time: float
    #: Seconds of telling the partitions of keys, and putting records in their order.
    partition_time: float
    #: Seconds of making bytes of records that are sent.
    encode_time: float
    #: Seconds of making records of bytes that were sent.
    decode_time: float
    #: Seconds of writing to disk, and of merging what was written.
    spill_time: float

    @classmethod
    def of_counts(cls, shuffle: ExplainedShuffle, counts: Counts) -> ShuffleStats:
        """Return what the workers' counts tell, of which times are in nanoseconds."""
        times = {f"{name}_time": counts[f"{name}_time"] / _NANOSECONDS for name in _TIMES}
        return cls(shuffle, **{**counts, **times})


class Statistics:
    """The shuffles that have run, in the order they were asked for; see `ferroshuffle.stats`."""

    _HEADINGS = (
        "operation",
        "values merged",
        "combiners merged",
        "sent",
        "spilled",
        *_TIMES,
        "widened",
        "call site",
    )

    def __init__(self, shuffles: Sequence[ShuffleStats]):
        self.shuffles = tuple(shuffles)

    def to_dict(self) -> dict[str, Any]:
        """Return the same in dicts, lists, texts and numbers."""
        dicts = map(asdict, self.shuffles)
        return {"shuffles": [{**each.pop("shuffle"), **each} for each in dicts]}

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                each.shuffle.operation,
                _records(each.values_typed, each.values_called, "called"),
                _records(each.combiners_typed, each.combiners_called, "called"),
                f"{_records(each.sent_typed, each.sent_pickled, 'pickled')}: "
                f"{_size(each.sent_bytes)}",
                f"{each.spilled_records:,}: {_size(each.spilled_disk_bytes)}",
                *(f"{getattr(each, f'{name}_time'):.3g} s" for name in _TIMES),
                f"{each.widenings}: {each.cause}" if each.widenings else "0",
                each.shuffle.call_site,
            )
            for each in self.shuffles
        ]

    def __repr__(self) -> str:
        return as_text(self._HEADINGS, self._rows()) if self.shuffles else _NONE

    def _repr_html_(self) -> str:
        if not self.shuffles:
            return f"<p>{html.escape(_NONE)}</p>"
        return as_html(self._HEADINGS, self._rows())


_NONE = "no shuffle by key that was asked for since ferroshuffle.install() has run"


def _records(plain: int, others: int, how: str) -> str:
    if not others:
        return f"{plain:,}"
    return f"{others:,} {how}" if not plain else f"{plain:,} and {others:,} {how}"


def _size(size: int) -> str:
    value = float(size)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} GB"


class ShufflesOfContext:
    """The shuffles that were asked for in one context, and what was counted of them."""

    def __init__(self, context: Any):
        self._accumulator = context.accumulator({}, CountsParam())
        self._numbers = count()
        self._asked_for: dict[int, ExplainedShuffle] = {}

    @classmethod
    def of(cls, context: Any) -> ShufflesOfContext:
        """Return those of a context; they start with the first call."""
        with _lock:
            found: ShufflesOfContext | None = getattr(context, _ON_CONTEXT, None)
            if found is None:
                found = cls(context)
                setattr(context, _ON_CONTEXT, found)
            return found

    def add(self, shuffle: ExplainedShuffle) -> ShuffleMetrics:
        """Note that a shuffle is asked for; return where what is counted of it goes."""
        number = next(self._numbers)
        self._asked_for[number] = shuffle
        self._asked_for.pop(number - MOST_SHUFFLES, None)
        return ShuffleMetrics(number, self._accumulator)

    def counted(self) -> list[ShuffleStats]:
        """Return what was counted of those that have run."""
        counts = self._accumulator.value
        asked_for = dict(self._asked_for)
        return [
            ShuffleStats.of_counts(asked_for[number], counts[number])
            for number in sorted(counts.keys() & asked_for.keys())
        ]


def stats(context: Any) -> Statistics:
    """Tell of the shuffles that have run in `context`; see `ferroshuffle.stats`."""
    from pyspark import SparkContext

    if not isinstance(context, SparkContext):
        raise TypeError(f"stats() is about a SparkContext, not about {type(context).__name__!r}")
    found: ShufflesOfContext | None = getattr(context, _ON_CONTEXT, None)
    return Statistics([] if found is None else found.counted())
