"""What is known of the shuffles that an RDD needs, before any of them has run."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ferroshuffle.spark.lineage import ExplainedShuffle, Shuffle, shuffles_of
from ferroshuffle.spark.table import as_html, as_text


class Explanation:
    """The shuffles of an RDD, those first that run first; what `ferroshuffle.explain` returns."""

    _HEADINGS = ("operation", "partitions", "recognised as", "call site")

    def __init__(self, shuffles: Sequence[ExplainedShuffle]):
        self.shuffles = tuple(shuffles)

    def to_dict(self) -> dict[str, Any]:
        """Return the same in dicts, lists, texts and numbers."""
        return {"shuffles": [asdict(shuffle) for shuffle in self.shuffles]}

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                each.operation,
                str(each.partitions),
                each.aggregate or f"no: {each.reason}",
                each.call_site,
            )
            for each in self.shuffles
        ]

    def __repr__(self) -> str:
        if not self.shuffles:
            return _NONE
        return as_text(self._HEADINGS, self._rows())

    def _repr_html_(self) -> str:
        if not self.shuffles:
            return f"<p>{html.escape(_NONE)}</p>"
        return as_html(self._HEADINGS, self._rows())


_NONE = "no shuffle by key was asked for since ferroshuffle.install() or the last checkpoint"


def explain(rdd: Any) -> Explanation:
    """Tell of the shuffles of `rdd`; see `ferroshuffle.explain`."""
    from pyspark import RDD

    if not isinstance(rdd, RDD):
        raise TypeError(f"explain() is about an RDD, not about {type(rdd).__name__!r}")
    return Explanation([shuffle.told for shuffle in _in_order(shuffles_of(rdd))])


def _in_order(last: Sequence[Shuffle]) -> list[Shuffle]:
    """Return shuffles and all that they need, each once, and behind those that it needs."""
    done: dict[int, Shuffle] = {}
    # Not by recursion: a loop of a program makes thousands of them, one from the other.
    stack = [(shuffle, False) for shuffle in reversed(last)]
    while stack:
        shuffle, has_parents = stack.pop()
        if id(shuffle) in done:
            continue
        if has_parents:
            done[id(shuffle)] = shuffle
        else:
            stack.append((shuffle, True))
            stack.extend((parent, False) for parent in reversed(shuffle.parents))
    return list(done.values())
