"""Blocks are bounded by bytes: what a spill and a merge hold on their way stays small."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.children import run

# A spill has to hold the block that it writes, and a merge one block of each run.
ROOM_MIB = 60
# Of 375 MiB in all.
SLACK_MIB = 40
COUNT = 1_500

SHAPES = {
    "in a tuple": "(n, text(n))",
    "deep in tuples": "(n, ((n, (n, [text(n)])), n))",
    "in a dict": "(n, {n: text(n), -n: None})",
    "bytes in a list": "(n, [text(n).encode()])",
    "an array": "(n, numpy.full(SIZE // 8, n))",
    "an object": "(n, types.SimpleNamespace(held=text(n)))",
    "after small ones": "(n, text(n) if at > 500 else n)",
}

FRAME = """
import sys, types
import numpy
from ferroshuffle import shuffle

SIZE = 256 << 10
count, room, slack = map(int, sys.argv[1:])

def text(n):
    return f"{{n:08}}" * (SIZE // 8)

def records():
    for at in range(count):
        n = at * 7919 % count
        yield {record}

limit = shuffle.get_used_memory() + room
{work}
# Not ru_maxrss, which a process has from the one that started it.
with open("/proc/self/status") as status:
    [peak] = [int(line.split()[1]) >> 10 for line in status if line.startswith("VmHWM")]
assert peak < limit + slack, f"{{peak - limit}} MiB above the limit of {{limit}} MiB"
assert shuffle.DiskBytesSpilled > 0
"""

WORK = {
    "sort": """
seen = 0
for n, _ in shuffle.ExternalSorter(limit).sorted(records(), key=lambda record: record[0]):
    assert n == seen
    seen += 1
assert seen == count
""",
    "group": """
append, extend = (lambda c, v: c.append(v) or c), (lambda a, b: a.extend(b) or a)
agg = shuffle.Aggregator(lambda v: [v], append, extend)
merger = shuffle.ExternalGroupBy(agg, limit, batch=100, partitions=2)
merger.mergeValues((n % 3, value) for n, value in records())
assert {key: sum(1 for _ in group) for key, group in merger.items()} == {
    key: len(range(key, count, 3)) for key in range(3)
}
""",
    "merge": """
agg = shuffle.SimpleAggregator(lambda a, b: b)
merger = shuffle.ExternalMerger(agg, limit, batch=100, partitions=2)
merger.mergeValues(records())
assert sum(n for n, _ in merger.items()) == count * (count - 1) // 2
""",
}


@pytest.mark.parametrize("work", sorted(WORK))
@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_large_values_spill_in_small_blocks(shape: str, work: str, local_dirs: list[Path]) -> None:
    run(FRAME.format(record=SHAPES[shape], work=WORK[work]), COUNT, ROOM_MIB, SLACK_MIB)
