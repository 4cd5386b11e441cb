"""Blocks are bounded by bytes: what a spill and a merge hold on their way stays small."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.children import run

# A spill has to hold the block that it writes, and a merge one block of each run.
ROOM_MIB = 60
SLACK_MIB = 90
COUNT = 1_500

SHAPES = {
    "in a tuple": "(n, text(n))",
    "deep in tuples": "(n, ((n, (n, [text(n)])), n))",
    "in a dict": "(n, {n: text(n), -n: None})",
    "bytes in a list": "(n, [text(n).encode()])",
    "an array": "(n, numpy.full(SIZE // 8, n))",
    "an object": "(n, types.SimpleNamespace(held=text(n)))",
    "after small ones": "(n, text(n) if n > 500 else n)",
}

FRAME = """
import resource, sys, types
import numpy
from ferroshuffle import shuffle

SIZE = 256 << 10
count, room, slack = map(int, sys.argv[1:])

def text(n):
    return f"{{n:08}}" * (SIZE // 8)

def records():
    for n in range(count):
        n = n * 7919 % count
        yield {record}

limit = shuffle.get_used_memory() + room
{work}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
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
    "merge": """
merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(lambda a, b: b), limit, batch=100)
merger.mergeValues(records())
assert sum(n for n, _ in merger.items()) == count * (count - 1) // 2
""",
}


@pytest.mark.parametrize("work", sorted(WORK))
@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_large_values_spill_in_small_blocks(shape: str, work: str, local_dirs: list[Path]) -> None:
    run(FRAME.format(record=SHAPES[shape], work=WORK[work]), COUNT, ROOM_MIB, SLACK_MIB)
