"""MemoryBytesSpilled and DiskBytesSpilled: plain ints on whatever module Spark reads them from."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark import shuffle as stock

from ferroshuffle import shuffle
from tests.conftest import NO_LIMIT_MIB
from tests.faults.children import run

NAMES = ("MemoryBytesSpilled", "DiskBytesSpilled")


def read(module: Any) -> tuple[int, int]:
    assert all(type(getattr(module, name)) is int for name in NAMES)
    return module.MemoryBytesSpilled, module.DiskBytesSpilled


def spill_a_merger(kind: Any = shuffle.ExternalMerger) -> None:
    merger = kind(
        shuffle.Aggregator(lambda v: [v], lambda c, v: [*c, v], lambda a, b: a + b), NO_LIMIT_MIB
    )
    merger.mergeValues((n, "x" * 50) for n in range(20_000))
    merger._spill()


def spill_a_sorter() -> None:
    class Eager(shuffle.ExternalSorter):
        def _next_limit(self) -> float:
            return self.memory_limit

    assert list(Eager(1).sorted(range(20_000, 0, -1))) == list(range(1, 20_001))


def spill_a_list() -> None:
    held: Any = shuffle.ExternalList([])
    for n in range(10_240):
        held.append(n)


SPILLS = {
    "merger": spill_a_merger,
    "group by": lambda: spill_a_merger(shuffle.ExternalGroupBy),
    "sorter": spill_a_sorter,
    "list": spill_a_list,
}


@pytest.mark.parametrize(
    "module", [shuffle, stock], ids=["ferroshuffle.shuffle", "pyspark.shuffle"]
)
@pytest.mark.parametrize("what", sorted(SPILLS))
def test_a_spill_is_counted_in_both_modules(what: str, module: Any) -> None:
    memory, disk = read(module)
    SPILLS[what]()
    memory_after, disk_after = read(module)
    assert disk_after > disk
    # What a list frees shows in the resident set only, which may have no reason to shrink.
    assert memory_after >= memory if what == "list" else memory_after > memory


@pytest.mark.parametrize(
    "module", [shuffle, stock], ids=["ferroshuffle.shuffle", "pyspark.shuffle"]
)
def test_assigning_zero_starts_counting_from_zero(module: Any) -> None:
    spill_a_merger()
    total = read(module)
    for name in NAMES:
        setattr(module, name, 0)
    spill_a_merger()
    memory, disk = read(module)
    assert 0 < disk <= total[1]
    assert memory > 0
    module.DiskBytesSpilled = 1000000000
    spill_a_merger()
    assert 1_000_000_000 < module.DiskBytesSpilled <= 1_000_000_000 + 2 * disk


def test_disk_bytes_are_what_the_files_hold(local_dirs: list[Any]) -> None:
    import os

    for name in NAMES:
        setattr(shuffle, name, 0)
    merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(max), NO_LIMIT_MIB)
    for start in range(3):
        merger.mergeValues((n, str(n)) for n in range(start, 5_000))
        merger._spill()
    sizes = 0
    seen = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        if target.startswith(str(local_dirs[0].parent)) and target not in seen:
            seen.add(target)
            sizes += os.fstat(int(entry)).st_size
    assert shuffle.DiskBytesSpilled == sizes > 0


def test_nothing_is_counted_where_nothing_spills() -> None:
    before = read(shuffle), read(stock)
    merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(max), NO_LIMIT_MIB)
    merger.mergeValues((n, n) for n in range(10_000))
    assert len(list(merger.items())) == 10_000
    assert list(shuffle.ExternalSorter(NO_LIMIT_MIB).sorted([2, 1])) == [1, 2]
    assert (read(shuffle), read(stock)) == before


def test_counting_does_not_import_pyspark() -> None:
    run(
        """
        import sys
        from ferroshuffle import shuffle
        merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(max))
        merger.mergeValues((n, n) for n in range(1_000))
        merger._spill()
        assert type(shuffle.DiskBytesSpilled) is int and shuffle.DiskBytesSpilled > 0
        assert "pyspark" not in sys.modules
        """
    )


def test_pyspark_s_module_counts_from_the_moment_it_is_imported() -> None:
    run(
        """
        from ferroshuffle import shuffle
        merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(max))
        merger.mergeValues((n, n) for n in range(1_000))
        merger._spill()
        import pyspark.shuffle
        assert pyspark.shuffle.DiskBytesSpilled == 0
        merger.mergeValues((n, n) for n in range(1_000))
        merger._spill()
        assert shuffle.DiskBytesSpilled > pyspark.shuffle.DiskBytesSpilled > 0
        """
    )
