"""InMemoryMerger and iteritems, which come from the module's first version."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferroshuffle import shuffle
from tests.conftest import NO_LIMIT_MIB, open_files


def collecting() -> shuffle.Aggregator[Any, Any]:
    return shuffle.Aggregator(
        lambda v: [v], lambda c, v: c.append(v) or c, lambda a, b: a.extend(b) or a
    )


@given(st.lists(st.tuples(st.integers(0, 5), st.integers())))
def test_it_merges_as_a_dict_would(items: list[tuple[int, int]]) -> None:
    expected: dict[int, list[int]] = {}
    for key, value in items:
        expected.setdefault(key, []).append(value)
    merger = shuffle.InMemoryMerger(collecting())
    merger.mergeValues(items)
    assert list(merger.items()) == list(expected.items())
    merger.mergeCombiners((key, [value]) for key, value in items)
    assert [(key, sorted(value)) for key, value in merger.items()] == [
        (key, sorted(value * 2)) for key, value in expected.items()
    ]


def test_it_never_spills() -> None:
    before, counted = open_files(), shuffle.DiskBytesSpilled
    merger = shuffle.InMemoryMerger(collecting())
    merger.mergeValues((n, n) for n in range(100_000))
    assert open_files() == before
    assert counted == shuffle.DiskBytesSpilled
    assert sum(value[0] for _, value in merger.items()) == sum(range(100_000))


def test_iteritems_is_items() -> None:
    for merger in (
        shuffle.InMemoryMerger(collecting()),
        shuffle.ExternalMerger(collecting(), NO_LIMIT_MIB),
        shuffle.ExternalGroupBy(collecting(), NO_LIMIT_MIB),
    ):
        merger.mergeValues([("a", 1), ("b", 2), ("a", 3)])
        assert list(merger.iteritems()) == list(merger.items()) == [("a", [1, 3]), ("b", [2])]


def test_iteritems_of_a_spilled_merger_reads_the_runs() -> None:
    merger = shuffle.ExternalMerger(collecting(), NO_LIMIT_MIB)
    merger.mergeValues([("a", 1), ("b", 2)])
    merger._spill()
    merger.mergeValues([("a", 3)])
    assert sorted(merger.iteritems()) == [("a", [1, 3]), ("b", [2])]


def test_iteritems_of_a_subclass_follows_its_items() -> None:
    class Doubled(shuffle.ExternalMerger):
        def items(self) -> Any:
            return ((key, value * 2) for key, value in super().items())

    merger = Doubled(collecting(), NO_LIMIT_MIB)
    merger.mergeValues([("a", 1)])
    assert list(merger.iteritems()) == [("a", [1, 1])]


def test_an_error_keeps_what_came_before() -> None:
    merger = shuffle.InMemoryMerger(collecting())
    with pytest.raises(TypeError):
        merger.mergeValues([("a", 1), ([], 2)])
    assert list(merger.items()) == [("a", [1])]
