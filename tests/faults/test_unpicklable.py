"""What pickle refuses: pickle's own error, the key named, and nothing that was merged is lost.

Cloudpickle refuses these too: what it takes, stock spills, and `tests/compat` wants the same here.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ferroshuffle import shuffle
from tests.conftest import NO_LIMIT_MIB

COLLECT = (lambda v: [v], lambda c, v: c.append(v) or c, lambda a, b: a.extend(b) or a)

REFUSED: dict[str, Callable[[], Any]] = {
    "lock": threading.Lock,
    "generator": lambda: (n for n in ()),
    "nested": lambda: {"deep": [(1, [threading.Lock()])]},
}


def pickle_s_error(thing: Any) -> type[BaseException]:
    with pytest.raises(Exception) as caught:
        pickle.dumps(thing)
    return caught.type


@pytest.mark.parametrize("name", sorted(REFUSED))
@pytest.mark.parametrize("kind", [shuffle.ExternalMerger, shuffle.ExternalGroupBy])
@pytest.mark.parametrize("runs", [0, 2])
def test_a_value_that_pickle_refuses_names_its_key_and_loses_nothing(
    name: str, kind: Any, runs: int
) -> None:
    refused = REFUSED[name]()
    merger = kind(shuffle.Aggregator(*COLLECT), NO_LIMIT_MIB, partitions=3)
    for run in range(runs):
        merger.mergeValues((("key", n), run) for n in range(20))
        merger._spill()
    merger.mergeValues((("key", n), runs) for n in range(20))
    merger.mergeValues([(("key", 13), refused)])
    for _ in range(2):
        with pytest.raises(pickle_s_error([refused])) as caught:
            merger._spill()
        assert repr(("key", 13)) in str(caught.value)
    assert merger.spills == runs
    merger.mergeValues([("later", 1)])
    result = {key: list(group) for key, group in merger.items()}
    assert result.pop("later") == [1]
    assert result.pop(("key", 13)) == [*range(runs + 1), refused]
    assert result == {("key", n): list(range(runs + 1)) for n in range(20) if n != 13}


@pytest.mark.parametrize("name", ["lock", "generator"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_key_that_pickle_refuses_is_named_and_loses_nothing(name: str, nested: bool) -> None:
    refused = REFUSED[name]()
    key = (1, refused) if nested else refused
    merger = shuffle.ExternalMerger(shuffle.Aggregator(*COLLECT), NO_LIMIT_MIB, partitions=3)
    merger.mergeValues([("a", 1), (key, 2), ("b", 3)])
    with pytest.raises(pickle_s_error(key)) as caught:
        merger._spill()
    assert repr(key) in str(caught.value)
    assert list(merger.items()) == [("a", [1]), (key, [2]), ("b", [3])]


def test_the_spill_within_merge_values_raises_it_too() -> None:
    merger = shuffle.ExternalMerger(shuffle.Aggregator(*COLLECT), 1, batch=100)
    lock = threading.Lock()
    source = iter([("culprit", lock)] + [(n, n) for n in range(500)])
    with pytest.raises(TypeError, match="culprit"):
        merger.mergeValues(source)
    merger.memory_limit = NO_LIMIT_MIB
    merger.mergeValues(source)
    assert dict(merger.items()) == {"culprit": [lock]} | {n: [n] for n in range(500)}


def test_a_key_whose_repr_raises_does_not_hide_the_error() -> None:
    class Unspeakable:
        def __repr__(self) -> str:
            raise ZeroDivisionError

        def __reduce__(self) -> Any:
            raise TypeError("cannot pickle it")

    merger = shuffle.ExternalMerger(shuffle.Aggregator(*COLLECT), NO_LIMIT_MIB)
    merger.mergeValues([(Unspeakable(), 1)])
    with pytest.raises(TypeError, match="cannot pickle it"):
        merger._spill()
    assert [value for _, value in merger.items()] == [[1]]


def test_a_sorter_says_which_error_it_was() -> None:
    class Eager(shuffle.ExternalSorter):
        def _next_limit(self) -> float:
            return self.memory_limit

    items = [(n, threading.Lock()) for n in range(300)]
    with pytest.raises(TypeError, match="cannot pickle"):
        list(Eager(0).sorted(items, key=lambda item: item[0]))


def test_a_list_keeps_what_it_cannot_spill(local_dirs: list[Path]) -> None:
    class Small(shuffle.ExternalList):
        LIMIT = 4

    held = Small([])
    lock = threading.Lock()
    for value in (1, 2, lock):
        held.append(value)
    with pytest.raises(TypeError, match="cannot pickle"):
        held.append(4)
    assert list(held) == [1, 2, lock, 4]
    assert len(held) == 4


def test_in_memory_everything_is_welcome() -> None:
    things = [make() for make in REFUSED.values()]
    merger = shuffle.ExternalMerger(shuffle.Aggregator(*COLLECT), NO_LIMIT_MIB)
    merger.mergeValues((n % 2, thing) for n, thing in enumerate(things))
    assert [value for _, value in merger.items()] == [things[0::2], things[1::2]]
    assert list(shuffle.ExternalSorter(NO_LIMIT_MIB).sorted(things, key=id)) == sorted(
        things, key=id
    )
