"""What stock can spill, ours can: stock pickles with cloudpickle.

A class of the driver's `__main__` reaches a worker by value, and plain pickle finds it nowhere.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from ferroshuffle import shuffle
from tests.compat.aggregators import COLLECT, StockAggregator, StockGroupBy, StockMerger, ours
from tests.conftest import NO_LIMIT_MIB
from tests.faults.children import run


def _of_a_driver() -> dict[str, Any]:
    """Return what the `__main__` of another process defines, as a worker has it."""

    @dataclasses.dataclass(frozen=True)
    class Point:
        x: int
        y: int

    class Colour(enum.Enum):
        RED = 1

    class Plain:
        def __init__(self, tag: int) -> None:
            self.tag = tag

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Plain) and self.tag == other.tag

        def __hash__(self) -> int:
            return hash(self.tag)

    for kind in (Point, Colour, Plain):
        kind.__module__ = "__main__"
        kind.__qualname__ = f"Driver{kind.__name__}"
    row = collections.namedtuple("DriverRow", "a b", module="__main__")
    return {
        "dataclass": Point(1, 2),
        "enum": Colour.RED,
        "object": Plain(1),
        "namedtuple": row(1, 2),
        "class": Plain,
        "function": lambda value: value + 1,
        "nested": (1, Plain(2), row(3, 4)),
    }


NAMES = sorted(_of_a_driver())
MERGERS: dict[str, tuple[Any, Any]] = {
    "merger": (shuffle.ExternalMerger, StockMerger),
    "group by": (shuffle.ExternalGroupBy, StockGroupBy),
}


def _spill_twice(merger: Any, key: Any, value: Any) -> dict[Any, list[Any]]:
    for _ in range(2):
        merger.mergeValues([("before", 0), (key, value), ("after", 1)])
        merger._spill()
    return {key: list(group) for key, group in merger.items()}


@pytest.mark.parametrize("kind", sorted(MERGERS))
@pytest.mark.parametrize("name", NAMES)
def test_values_of_a_driver_s_own_types_survive_a_spill(
    name: str, kind: str, tmp_path: Path
) -> None:
    value = _of_a_driver()[name]
    with pytest.raises(Exception):  # noqa: B017  or the test would show nothing
        pickle.dumps(value)
    build, build_stock = MERGERS[kind]
    left = build(shuffle.Aggregator(*COLLECT), NO_LIMIT_MIB, partitions=3)
    # Stock leaves folders behind, so it gets one of its own.
    stock_dirs = [str(tmp_path / "python" / str(os.getpid()) / "stock")]
    right = build_stock(StockAggregator(*COLLECT), NO_LIMIT_MIB, partitions=3, localdirs=stock_dirs)
    left, right = _spill_twice(left, "key", value), _spill_twice(right, "key", value)
    assert left.keys() == right.keys()
    if name == "function":
        assert [function(1) for function in left["key"]] == [2, 2]
    else:
        assert left["key"] == right["key"] == [value, value]
        assert [type(item) for item in left["key"]] == [type(value)] * 2


@pytest.mark.parametrize("name", [name for name in NAMES if name != "function"])
def test_keys_of_a_driver_s_own_types_survive_a_spill(name: str) -> None:
    key = _of_a_driver()[name]
    result = _spill_twice(ours(COLLECT, partitions=3), key, 5)
    assert result == {"before": [0, 0], key: [5, 5], "after": [1, 1]}


def test_driver_s_types_survive_in_a_sorter_and_in_a_list() -> None:
    class Eager(shuffle.ExternalSorter):
        def _next_limit(self) -> float:
            return self.memory_limit

    class Small(shuffle.ExternalList):
        LIMIT = 3

    row = _of_a_driver()["namedtuple"]
    rows = [row._replace(a=n * 7 % 500) for n in range(500)]
    assert list(Eager(0).sorted(rows)) == sorted(rows)
    held = Small([])
    for item in rows:
        held.append(item)
    assert list(held) == rows
    assert {type(item) for item in held} == {type(row)}


def test_without_pyspark_pickle_s_error_names_the_key(local_dirs: list[Any]) -> None:
    run(
        """
        import sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {"pyspark", "cloudpickle"}:
                    raise ImportError(f"{name} is not installed")

        sys.meta_path.insert(0, Blocker())
        from ferroshuffle import shuffle
        merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(max), 1 << 30)
        function = lambda: 0
        merger.mergeValues([("a", 1), ("culprit", function)])
        for _ in range(2):
            try:
                merger._spill()
            except Exception as error:
                assert "culprit" in str(error), error
                assert "pickle" in str(error), error
            else:
                raise AssertionError("a lambda was pickled")
        assert list(merger.items()) == [("a", 1), ("culprit", function)]
        """
    )
