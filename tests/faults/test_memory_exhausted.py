"""RLIMIT_AS: the process ends its work or raises MemoryError; it is never aborted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.children import attempt

# Nothing is printed or formatted after the error: that may want memory too. Functions are short:
# where no memory at all is left, CPython 3.11 never gets into a handler far down a long one.
FRAME = """
import os, resource, sys
from ferroshuffle import shuffle

{prepare}

def work():
    {work}

def main():
    try:
        work()
    except MemoryError:
        os._exit(3)
    os._exit(0)

with open("/proc/self/statm") as statm:
    now = int(statm.read().split()[0]) * resource.getpagesize()
limit = now + (int(sys.argv[1]) << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
main()
"""

COLLECT = "lambda v: [v], lambda c, v: c.append(v) or c, lambda a, b: a.extend(b) or a"

WORK = {
    "distinct keys": (
        f"merger = shuffle.ExternalMerger(shuffle.Aggregator({COLLECT}), 1 << 30)",
        "merger.mergeValues((n, n) for n in range(700_000)); "
        "assert sum(1 for _ in merger.items()) == 700_000",
    ),
    "None after many": (
        f"merger = shuffle.ExternalMerger(shuffle.Aggregator({COLLECT}), 1 << 30)",
        "merger.mergeValues((None if n > 600_000 else n, None if n > 500_000 else n) "
        "for n in range(700_000)); "
        "assert sum(len(v) for _, v in merger.items()) == 700_000",
    ),
    "plain sums": (
        "merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(int.__add__), 1 << 30)",
        "merger.mergeValues((n >> 1, 1) for n in range(1_500_000)); "
        "assert sum(v for _, v in merger.items()) == 1_500_000",
    ),
    "groups": (
        f"merger = shuffle.ExternalGroupBy(shuffle.Aggregator({COLLECT}), 1 << 30, partitions=3)",
        "merger.mergeValues((n % 5, n) for n in range(2_000_000)); "
        "assert sum(len(group) for _, group in merger.items()) == 2_000_000",
    ),
    "sort": (
        "sorter = shuffle.ExternalSorter(1 << 30)",
        "assert sum(1 for _ in sorter.sorted(range(2_000_000, 0, -1))) == 2_000_000",
    ),
    "large values": (
        f"merger = shuffle.ExternalMerger(shuffle.Aggregator({COLLECT}), 1 << 30, partitions=2)",
        "merger.mergeValues((n % 3, bytes(1 << 20)) for n in range(100)); merger._spill(); "
        "assert sum(len(v) for _, v in merger.items()) == 100",
    ),
    "list": (
        "held = shuffle.ExternalList([])",
        "[held.append('x' * 100 + str(n)) for n in range(300_000)] and None; "
        "assert sum(1 for _ in held) == 300_000",
    ),
}


@pytest.mark.parametrize("room", [1, 4, 12, 32, 80])
@pytest.mark.parametrize("what", sorted(WORK))
def test_little_address_space_ends_in_memory_error_at_worst(
    what: str, room: int, local_dirs: list[Path]
) -> None:
    prepare, work = WORK[what]
    done = attempt(FRAME.format(prepare=prepare, work=work), room)
    assert done.returncode in (0, 3), f"exit {done.returncode}\n{done.stderr}"


@pytest.mark.parametrize("limit", [1, 40])
def test_with_a_memory_limit_below_it_the_work_gets_done(
    limit: int, local_dirs: list[Path]
) -> None:
    prepare = f"merger = shuffle.ExternalMerger(shuffle.Aggregator({COLLECT}), {limit})"
    done = attempt(FRAME.format(prepare=prepare, work=WORK["distinct keys"][1]), 96)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr}"


def test_what_was_merged_before_a_memory_error_is_still_there(local_dirs: list[Path]) -> None:
    prepare = f"""
seen = 0

def source():
    global seen
    for n in range(3_000_000):
        seen = n
        yield n, None

def merge():
    try:
        merger.mergeValues(source())
    except (MemoryError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        return
    os._exit(4)

hard = resource.getrlimit(resource.RLIMIT_AS)[1]
merger = shuffle.ExternalMerger(shuffle.Aggregator({COLLECT}), 1 << 30, localdirs=["/proc/no"])
"""
    work = """merge()
    count = 0
    for key, value in merger.items():
        assert key == count and value == [None]
        count += 1
    assert seen - 1 <= count <= seen + 1 and count > 1000, (count, seen)"""
    frame = FRAME.replace("(limit, limit)", "(limit, hard)")
    done = attempt(frame.format(prepare=prepare, work=work), 40)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr}"


def test_what_was_merged_before_a_memory_error_of_reading_is_still_there(
    local_dirs: list[Path],
) -> None:
    prepare = f"""
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
merger = shuffle.ExternalMerger(shuffle.Aggregator({COLLECT}), 1 << 30, partitions=3)
for run in range(2):
    merger.mergeValues((n, run) for n in range(1_000_000))
    if run == 0:
        merger._spill()

def read():
    held = []
    try:  # leave no room within what the process has, where an allocation might still fit
        while True:
            held.append(bytearray(1 << 20))
    except MemoryError:
        pass
    try:
        next(merger.items())
    except MemoryError:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        return
    os._exit(4)
"""
    work = """read()
    assert sorted(merger.items()) == [(n, [0, 1]) for n in range(1_000_000)]"""
    frame = FRAME.replace("(limit, limit)", "(limit, hard)")
    done = attempt(frame.format(prepare=prepare, work=work), 1)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr}"
