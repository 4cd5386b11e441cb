"""ExternalList, ExternalListOfList and GroupByKey."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark import cloudpickle
from pyspark import shuffle as stock

from ferroshuffle import shuffle
from tests.conftest import open_files

LIMIT = 10_240


def ours_open(local_dirs: list[Any]) -> int:
    """Count this process's open files in the local dirs."""
    base = str(local_dirs[0].parent)
    return sum(count for target, count in open_files().items() if target.startswith(base))


class Small(shuffle.ExternalList):
    LIMIT = 8


class SmallOfLists(shuffle.ExternalListOfList):
    LIMIT = 8


@given(st.lists(st.integers()), st.lists(st.integers(), max_size=60))
def test_it_holds_what_was_appended(start: list[int], more: list[int]) -> None:
    held: shuffle.ExternalList[int] = Small(list(start))
    for count, value in enumerate(more):
        held.append(value)
        assert len(held) == len(start) + count + 1
    assert list(held) == list(held) == start + more


@pytest.mark.parametrize("count", [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 3 * LIMIT + 7])
def test_it_spills_at_its_limit_and_reads_back(count: int, local_dirs: list[Any]) -> None:
    held: shuffle.ExternalList[Any] = shuffle.ExternalList([])
    before = shuffle.DiskBytesSpilled
    for n in range(count):
        held.append((n, str(n)))
    assert len(held) == count
    assert (shuffle.DiskBytesSpilled > before) == (count >= LIMIT)
    assert ours_open(local_dirs) == (1 if count >= LIMIT else 0)
    assert list(held) == [(n, str(n)) for n in range(count)]


def test_values_of_all_kinds_come_back_exactly() -> None:
    cargo = [None, True, 1, 1.0, "a\udc80", b"x", bytearray(b"y"), (1, [2]), {1: {2}}, 2**70, ...]
    held = Small([])
    for value in cargo * 10:
        held.append(value)
    back = list(held)
    assert back == cargo * 10
    assert [type(value) for value in back] == [type(value) for value in cargo * 10]


def test_appending_goes_on_while_it_is_read() -> None:
    held = Small([])
    for n in range(20):
        held.append(n)
    reading = iter(held)
    assert [next(reading) for _ in range(5)] == [0, 1, 2, 3, 4]
    for n in range(20, 40):
        held.append(n)
    assert list(held) == list(range(40))
    assert list(reading)[:15] == list(range(5, 20))


def test_many_readers_at_once_each_read_all() -> None:
    held = Small([])
    for n in range(100):
        held.append(n)
    assert list(zip(held, held, strict=True)) == [(n, n) for n in range(100)]


def test_the_list_it_was_made_from_is_used_as_in_stock() -> None:
    for module in (shuffle, stock):
        values = [1, 2]
        held = module.ExternalList(values)
        assert held.values == [1, 2]
        assert held.count == 2
        values.append(3)
        assert list(held) == [1, 2, 3]
        assert len(held) == 2


@pytest.mark.parametrize("kind", [shuffle.ExternalList, Small], ids=["in memory", "spilled"])
@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps], ids=["pickle", "cloudpickle"])
def test_it_travels_by_pickle(kind: Any, dumps: Any) -> None:
    held = kind([])
    for n in range(1_000):
        held.append(n)
    back = pickle.loads(dumps(held))
    assert type(back) is kind
    assert len(back) == 1_000
    assert list(back) == list(held) == list(range(1_000))
    back.append("more")
    assert list(back) == [*range(1_000), "more"]
    assert len(held) == 1_000


def test_a_copy_is_a_list_of_its_own() -> None:
    held = Small([])
    for n in range(30):
        held.append(n)
    other = copy.deepcopy(held)
    other.append(30)
    held.append(-1)
    assert list(other) == list(range(31))
    assert list(held) == [*range(30), -1]


def test_a_list_sent_to_another_pickled_size_stays_small_on_disk() -> None:
    held: shuffle.ExternalList[Any] = shuffle.ExternalList([])
    before = shuffle.DiskBytesSpilled
    for _ in range(LIMIT):
        held.append("the same words again and again")
    assert shuffle.DiskBytesSpilled - before < LIMIT * 10


def test_dropping_it_frees_its_file(local_dirs: list[Any]) -> None:
    held = Small(list(range(8)))
    held.append(1)
    assert ours_open(local_dirs) == 1
    del held
    assert ours_open(local_dirs) == 0


def test_a_reader_keeps_the_file_until_it_is_done(local_dirs: list[Any]) -> None:
    held = Small([])
    for n in range(50):
        held.append(n)
    reading = iter(held)
    next(reading)
    del held
    assert list(reading) == list(range(1, 50))
    del reading
    assert ours_open(local_dirs) == 0


def test_a_list_of_lists_counts_and_reads_the_members() -> None:
    held = SmallOfLists([[1, 2], [], [3]])
    assert len(held) == 3
    for n in range(50):
        held.append([n] * n)
    assert len(held) == 3 + sum(range(50))
    assert list(held) == [1, 2, 3] + [n for n in range(50) for _ in range(n)]


def test_a_list_of_lists_takes_anything_with_a_length() -> None:
    held = SmallOfLists([])
    for members in (range(3), "ab", (1,), {5}, {6: 7}, b"z"):
        held.append(members)  # type: ignore[arg-type]
    assert list(held) == [0, 1, 2, "a", "b", 1, 5, 6, 122]
    assert len(held) == 9
    with pytest.raises(TypeError):
        held.append(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [shuffle.ExternalListOfList, SmallOfLists])
def test_a_list_of_lists_travels_by_pickle(kind: Any) -> None:
    held = kind([[0]])
    for n in range(100):
        held.append([n, n])
    back = pickle.loads(pickle.dumps(held))
    assert type(back) is kind
    assert len(back) == 201
    assert list(back) == list(held)


def _sorted_records(count: int, step: int = 1) -> Iterator[tuple[int, list[int]]]:
    for key in range(1, count + 1, step):
        for value in range(key):
            yield key, [value]


@pytest.mark.parametrize(("count", "step"), [(1, 1), (2, 1), (100, 1), (30_002, 10_000)])
def test_group_by_key_gives_each_key_with_all_its_values(count: int, step: int) -> None:
    seen = []
    for key, group in shuffle.GroupByKey(_sorted_records(count, step)):
        assert isinstance(group, shuffle.ExternalListOfList)
        assert len(group) == key
        assert list(group) == list(range(key))
        seen.append(key)
    assert seen == list(range(1, count + 1, step))


def test_group_by_key_of_nothing() -> None:
    assert list(shuffle.GroupByKey([])) == []


def test_group_by_key_joins_only_neighbours() -> None:
    records = [("a", [1]), ("a", [2, 3]), ("b", []), ("a", [4]), (1, [5]), (1.0, [6]), (True, [7])]
    groups = []
    for module in (shuffle, stock):
        groups.append([(key, list(group)) for key, group in module.GroupByKey(iter(records))])
    assert groups[0] == groups[1] == [("a", [1, 2, 3]), ("b", []), ("a", [4]), (1, [5, 6, 7])]


def test_group_by_key_can_be_read_again_where_its_input_can() -> None:
    grouped = shuffle.GroupByKey([("a", [1]), ("a", [2])])
    for _ in range(2):
        assert [(key, list(group)) for key, group in grouped] == [("a", [1, 2])]


def test_group_by_key_s_groups_travel_by_pickle() -> None:
    groups = list(shuffle.GroupByKey(_sorted_records(30_002, 15_000)))
    back = pickle.loads(pickle.dumps(groups))
    assert [key for key, _ in back] == [1, 15_001, 30_001]
    for key, group in back:
        assert len(group) == key
        assert list(group) == list(range(key))


def test_group_by_key_passes_errors_of_its_input_on() -> None:
    def source() -> Iterator[Any]:
        yield "a", [1]
        yield "b", [1]
        raise ZeroDivisionError

    reading = iter(shuffle.GroupByKey(source()))
    key, group = next(reading)
    assert (key, list(group)) == ("a", [1])
    with pytest.raises(ZeroDivisionError):
        next(reading)
