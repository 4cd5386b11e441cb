"""Which shuffles an RDD comes from, which PySpark's own objects do not tell.

Of an RDD that was shuffled PySpark has no more than the JVM's object, and so it is with what
`union` and its like make of several. So we note on these what `explain` needs, in words: RDDs and
functions hold whatever they refer to, which a program that makes RDDs in a loop cannot afford.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from ferroshuffle.native import describe, describe_key
from ferroshuffle.serializers import BlockSerializer
from ferroshuffle.settings import is_enabled
from ferroshuffle.shuffle import Aggregator

_NOTE = "_ferroshuffle_shuffles"

_MOVED = "records are moved and not merged"

# From the function of an RDD over what PySpark wraps it in to an aggregator.
_MOST_DEPTH = 6


@dataclass(frozen=True)
class ExplainedShuffle:
    """What is told of one shuffle, in an `Explanation`."""

    #: The method that was called, such as ``reduceByKey``.
    operation: str
    #: Where that was, as ``file:line``.
    call_site: str
    #: Number of partitions that it makes.
    partitions: int
    #: What merging is recognised as, such as ``sum of value``, or the key function of a sort, such
    #: as ``order of key[1]``, and so is computed over columns where the types of the records allow
    #: it; None where `reason` says why not.
    aggregate: str | None
    #: Why functions are called, or that there are none; None where neither is so.
    reason: str | None


@dataclass(frozen=True, eq=False)
class Shuffle:
    """One that was asked for."""

    told: ExplainedShuffle
    #: The shuffles that the records come from.
    parents: tuple[Shuffle, ...]


def shuffles_of(rdd: Any) -> tuple[Shuffle, ...]:
    """Return the last shuffles that an RDD comes from, as far as the last checkpoint."""
    while rdd is not None:
        if rdd.is_checkpointed and rdd.isCheckpointed():
            break
        noted: tuple[Shuffle, ...] | None = getattr(rdd, _NOTE, None)
        if noted is not None:
            return noted
        rdd = getattr(rdd, "prev", None)
    return ()


def shuffle_of(
    map_side: Any,
    aggregator: Aggregator[Any, Any] | None,
    sort_key: Callable[[Any], Any] | None,
    call_site: str,
    partitions: int,
) -> Shuffle:
    """Return the shuffle of `map_side`, for which PySpark has that call site.

    Its records are merged by `aggregator`, or sorted by what `sort_key` makes of their keys, or
    neither.
    """
    operation, _, place = call_site.partition(" at ")
    if aggregator is not None:
        aggregate, reason = describe(aggregator, is_sent=True)
    elif sort_key is not None:
        aggregate, reason = describe_key(sort_key, is_sent=True)
    else:
        aggregate, reason = None, _MOVED
    if aggregate is not None and not is_enabled():
        aggregate, reason = None, "spark.ferroshuffle.enabled is false"
    told = ExplainedShuffle(operation, place, partitions, aggregate, reason)
    return Shuffle(told, shuffles_of(map_side))


def note_shuffle(shuffled: Any, shuffle: Shuffle) -> None:
    """Note on an RDD that it comes from a shuffle."""
    setattr(shuffled, _NOTE, (shuffle,))


def note_shuffles_of(rdd: Any, made: Any) -> None:
    """Note on an RDD that it comes from the shuffles that another one comes from."""
    setattr(made, _NOTE, shuffles_of(rdd))


def noting(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that makes one RDD of others, and notes what it comes from."""

    @functools.wraps(method)
    def note_parents(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = method(self, *args, **kwargs)
        from_all = [each for each in _rdds((self, *args, *kwargs.values())) if each is not made]
        shuffles = dict.fromkeys(each for rdd in from_all for each in shuffles_of(rdd))
        if shuffles and not hasattr(made, "prev"):
            setattr(made, _NOTE, tuple(shuffles))
            # Of several shuffles' records nobody can tell whose they are.
            deserializer = made._jrdd_deserializer
            if len(shuffles) > 1 and isinstance(deserializer, BlockSerializer):
                made._jrdd_deserializer = BlockSerializer(deserializer.serializer)
        return made

    return note_parents


def _rdds(arguments: Iterable[Any]) -> Iterator[Any]:
    for each in arguments:
        if isinstance(each, Sequence) and not isinstance(each, str):
            yield from _rdds(each)
        elif hasattr(each, "is_checkpointed"):
            yield each


def aggregator_of(map_side: Any) -> Aggregator[Any, Any] | None:
    """Return the aggregator that the last step of an RDD's functions merges values by."""
    held, depth = [getattr(map_side, "func", None)], 0
    while held and depth < _MOST_DEPTH:
        for each in held:
            # The other side of a shuffle has one too, and merges combiners.
            if isinstance(each, FunctionType) and "mergeValues" in each.__code__.co_names:
                for cell in _referred_to(each):
                    if isinstance(cell, Aggregator):
                        return cell
        held = [cell for each in held for cell in _referred_to(each)]
        depth += 1
    return None


def _referred_to(function: object) -> Iterator[object]:
    if not isinstance(function, FunctionType):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        # What the functions before refer to is of an earlier step.
        if name != "prev_func":
            try:
                yield cell.cell_contents
            except ValueError:  # nothing is in it
                continue
