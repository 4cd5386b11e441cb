"""Which folders are spilled to: SPARK_LOCAL_DIRS, its old name, or /tmp."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from pyspark import shuffle as stock

from ferroshuffle import shuffle
from tests.conftest import NO_LIMIT_MIB, open_files


def merger(**options: Any) -> shuffle.ExternalMerger[Any, Any, Any]:
    return shuffle.ExternalMerger(
        shuffle.Aggregator(lambda v: [v], lambda c, v: [*c, v], lambda a, b: a + b),
        NO_LIMIT_MIB,
        **options,
    )


def spill_targets() -> list[str]:
    return [target for target in open_files() if target.endswith("(deleted)")]


@pytest.mark.parametrize("value", [None, "/data", "/data/", "relative"])
def test_one_dir_is_named_as_in_stock(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARK_LOCAL_DIRS")
    if value is not None:
        monkeypatch.setenv("SPARK_LOCAL_DIRS", value)
    assert shuffle._get_local_dirs("sub") == stock._get_local_dirs("sub")


def test_without_a_setting_it_is_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARK_LOCAL_DIRS")
    assert shuffle._get_local_dirs("sub") == [f"/tmp/python/{os.getpid()}/sub"]


def test_the_old_variable_is_heard_and_the_new_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_LOCAL_DIR", "/old")
    monkeypatch.setenv("SPARK_LOCAL_DIRS", "/new")
    assert shuffle._get_local_dirs("sub") == [f"/new/python/{os.getpid()}/sub"]
    monkeypatch.delenv("SPARK_LOCAL_DIRS")
    assert shuffle._get_local_dirs("sub") == [f"/old/python/{os.getpid()}/sub"]
    monkeypatch.setenv("SPARK_LOCAL_DIR", "/old,/older")
    assert len(shuffle._get_local_dirs("sub")) == 2


@pytest.mark.parametrize("value", ["", ",", " , "])
def test_a_setting_that_names_nothing_still_gives_a_dir(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_LOCAL_DIRS", value)
    assert shuffle._get_local_dirs("sub")
    assert merger().localdirs


def test_several_dirs_come_in_any_order_without_touching_random(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ["/a", "/b", "/c"]
    monkeypatch.setenv("SPARK_LOCAL_DIRS", ",".join(names))
    random.seed(5)
    state = random.getstate()
    orders = {tuple(shuffle._get_local_dirs("sub")) for _ in range(200)}
    orders |= {tuple(merger().localdirs) for _ in range(5)}
    assert random.getstate() == state
    firsts = {order[0].split("/")[1] for order in orders}
    assert firsts == {"a", "b", "c"}
    for order in orders:
        assert sorted(path.split("/")[1] for path in order) == ["a", "b", "c"]


def test_seeding_random_does_not_fix_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_LOCAL_DIRS", ",".join(f"/{n}" for n in range(20)))
    orders = []
    for _ in range(3):
        random.seed(1)
        orders.append(shuffle._get_local_dirs("sub"))
    assert orders[0] != orders[1] or orders[1] != orders[2]


def test_mergers_start_in_either_dir(local_dirs: list[Path]) -> None:
    starts = set()
    for _ in range(40):
        one = merger()
        assert len(one.localdirs) == 2
        starts.add(next(d for d in local_dirs if one.localdirs[0].startswith(f"{d}/")))
    assert starts == set(local_dirs)


def test_spills_go_round_the_dirs(local_dirs: list[Path]) -> None:
    mergers = []
    used = set()
    for _ in range(12):
        one = merger()
        for _ in range(4):
            one.mergeValues((n, n) for n in range(50))
            one._spill()
        mergers.append(one)
        used |= {d for d in local_dirs for target in spill_targets() if str(d) in target}
    assert used == set(local_dirs)
    for one in mergers:
        assert sorted(one.items()) == [(n, [n] * 4) for n in range(50)]


def test_spill_files_have_no_name_and_are_private(local_dirs: list[Path]) -> None:
    one = merger()
    one.mergeValues((n, n) for n in range(50))
    one._spill()
    assert [entry for d in local_dirs for entry in d.rglob("*")] == []
    seen = 0
    for entry in os.listdir("/proc/self/fd"):
        target = (
            os.readlink(f"/proc/self/fd/{entry}")
            if os.path.lexists(f"/proc/self/fd/{entry}")
            else ""
        )
        if target.startswith(str(local_dirs[0].parent)):
            status = os.fstat(int(entry))
            assert status.st_nlink == 0
            assert status.st_mode & 0o777 == 0o600
            assert not os.get_inheritable(int(entry))
            seen += 1
    assert seen >= 1
    assert sorted(one.items()) == [(n, [n]) for n in range(50)]


def test_dirs_given_to_the_merger_are_the_ones_used(tmp_path: Path) -> None:
    given = [str(tmp_path / "mine")]
    one = merger(localdirs=given)
    assert one.localdirs == given
    one.mergeValues((n, n) for n in range(50))
    one._spill()
    assert any(target.startswith(str(tmp_path)) for target in spill_targets())
    assert sorted(one.items()) == [(n, [n]) for n in range(50)]
    assert list(tmp_path.iterdir()) == []


def test_dirs_and_partitions_set_before_the_first_spill_are_heard(tmp_path: Path) -> None:
    one = merger()
    one.localdirs = [str(tmp_path)]
    one.partitions = 3
    one.mergeValues((n, n) for n in range(50))
    one._spill()
    assert any(target.startswith(str(tmp_path)) for target in spill_targets())
    assert all(list(one._recursive_merged_items(index)) for index in range(3))
    assert sorted(one.items()) == [(n, [n]) for n in range(50)]


def test_dirs_that_do_not_exist_are_made_and_removed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path / "not" / "there"))
    one = merger()
    one.mergeValues((n, n) for n in range(50))
    one._spill()
    assert any(target.startswith(str(tmp_path)) for target in spill_targets())
    assert sorted(one.items()) == [(n, [n]) for n in range(50)]
    assert list(tmp_path.rglob("*")) in (
        [],
        [tmp_path / "not"],
        [tmp_path / "not", tmp_path / "not" / "there"],
    )
    assert not list(tmp_path.rglob("python"))


def test_another_s_files_in_a_local_dir_stay(tmp_path: Path) -> None:
    treasure = tmp_path / "treasure"
    treasure.write_text("keep me")
    one = merger(localdirs=[str(tmp_path)])
    one.mergeValues((n, n) for n in range(50))
    one._spill()
    assert len(list(one.items())) == 50
    one._cleanup()
    assert treasure.read_text() == "keep me"


def test_names_with_spaces_and_odd_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "with space é \udcff"
    odd.mkdir()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(odd))
    one = merger()
    one.mergeValues((n, n) for n in range(50))
    one._spill()
    assert any(os.fsdecode(odd.name) in target for target in spill_targets())
    assert sorted(one.items()) == [(n, [n]) for n in range(50)]


def test_sorters_and_lists_spill_to_the_local_dirs_too(local_dirs: list[Path]) -> None:
    held: shuffle.ExternalList[int] = shuffle.ExternalList([])
    for n in range(20_000):
        held.append(n)
    assert any(target.startswith(str(local_dirs[0].parent)) for target in spill_targets())
    del held
    sorter = shuffle.ExternalSorter(0)
    sorter._next_limit = lambda: 0  # type: ignore[method-assign]
    result = iter(sorter.sorted(range(5_000, 0, -1)))
    assert next(result) == 1
    assert any(target.startswith(str(local_dirs[0].parent)) for target in spill_targets())
    assert list(result) == list(range(2, 5_001))
