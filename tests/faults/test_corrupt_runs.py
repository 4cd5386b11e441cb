"""A disk that gives back other bytes than were written: an error, never a wrong row or a crash."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.faults.children import run

# Each subject: `work(harm)` spills, calls `harm` once all is on disk, and returns what it reads.
SUBJECTS = {
    "merger": """
        def work(harm):
            merger = shuffle.ExternalMerger(shuffle.Aggregator(*collect), 1 << 30, partitions=2)
            for start in (0, 3):
                merger.mergeValues((n % 4, str(n)) for n in range(start, start + 3))
                merger._spill()
            harm()
            return sorted(merger.items())
        expected = [(0, ["0", "4"]), (1, ["1", "5"]), (2, ["2"]), (3, ["3"])]
    """,
    "group by": """
        def work(harm):
            merger = shuffle.ExternalGroupBy(shuffle.Aggregator(*collect), 0, partitions=1)
            for start in (0, 3):
                merger.mergeCombiners((("a", [n]) for n in range(start, start + 3)), 0)
                merger._spill()
            harm()
            return [(key, list(group)) for key, group in merger.items()]
        expected = [("a", list(range(6)))]
    """,
    "streamed group": """
        def work(harm):
            merger = shuffle.ExternalGroupBy(shuffle.Aggregator(*collect), 0, partitions=1)
            for start in (0, 3):
                merger.mergeCombiners((("a", [n]) for n in range(start, start + 3)), 0)
                merger._spill()
            [(key, group)] = merger.items()
            harm()
            return key, list(group)
        expected = "a", list(range(6))
        skips = True
    """,
    "sorter": """
        class Eager(shuffle.ExternalSorter):
            def _next_limit(self):
                return self.memory_limit

        def source(harm):
            yield from range(204, -1, -1)
            harm()

        def work(harm):
            return list(Eager(0).sorted(source(harm)))
        expected = list(range(205))
    """,
    "list": """
        class Small(shuffle.ExternalList):
            LIMIT = 3

        def work(harm):
            held = Small([])
            for n in range(7):
                held.append(str(n))
            harm()
            return list(held)
        expected = [str(n) for n in range(7)]
    """,
}

CHECK = """
import gc, os, sys
import ferroshuffle
from ferroshuffle import shuffle

collect = lambda v: [v], lambda c, v: c.append(v) or c, lambda a, b: a.extend(b) or a
base = sys.argv[1]
SUBJECT

def files():
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        if target.startswith(base) and target.endswith("(deleted)"):
            found.setdefault(target, int(entry))
    return [f"/proc/self/fd/{found[target]}" for target in sorted(found)]

def flip(mask):
    def damage(data, offset):
        return data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :]
    return damage

def cut(data, offset):
    return data[:offset]

skips = globals().get("skips", False)  # what was read before is not read again
sizes = []
assert work(lambda: sizes.extend(os.path.getsize(path) for path in files())) == expected
gc.collect()
assert sizes and files() == [], sizes
caught = 0
for damage in (flip(0xFF), flip(1), cut):
    for which, size in enumerate(sizes):
        for offset in range(size):
            changed = None

            def harm():
                global changed
                paths = files()
                with open(paths[which], "r+b") as file:
                    data = file.read()
                    if offset < len(data):
                        harmed = damage(data, offset)
                        # What is written behind a cut fills it with zeros.
                        changed = harmed.ljust(len(data), bytes(1)) != data
                        file.seek(0)
                        file.write(harmed)
                        file.truncate(len(harmed))

            try:
                result = work(harm)
            except ferroshuffle.CorruptBlockError:
                caught += 1
            else:
                assert result == expected, (damage.__name__, offset, result)
                assert not changed or skips, (damage.__name__, offset, "went unseen")
gc.collect()
assert files() == [], "descriptors leaked"
print(caught)
"""


@pytest.mark.parametrize("subject", sorted(SUBJECTS))
def test_damage_at_every_offset_of_a_run_is_a_corrupt_block_error(
    subject: str, local_dirs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(local_dirs[0]))
    script = CHECK.replace("SUBJECT", textwrap.dedent(SUBJECTS[subject]))
    caught = int(run(script, local_dirs[0]))
    assert caught >= 100


def test_the_error_says_where_and_is_an_os_error(local_dirs: list[Path]) -> None:
    run(
        """
        import os, sys
        import ferroshuffle
        from ferroshuffle import shuffle
        merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(max), 1 << 30, partitions=1)
        merger.mergeValues([("a", 1)])
        merger._spill()
        for entry in os.listdir("/proc/self/fd"):
            path = f"/proc/self/fd/{entry}"
            if os.path.lexists(path) and os.readlink(path).startswith(sys.argv[1]):
                os.truncate(path, 10)
        try:
            next(merger.items())
        except ferroshuffle.CorruptBlockError as error:
            assert isinstance(error, OSError)
            assert len(str(error)) > 20
        else:
            raise AssertionError("a row came from a truncated file")
        """,
        local_dirs[0].parent,
    )


def test_a_pickled_list_that_was_damaged_does_not_crash(local_dirs: list[Path]) -> None:
    run(
        """
        import pickle
        import ferroshuffle
        from ferroshuffle import shuffle

        class Small(shuffle.ExternalList):
            LIMIT = 3

        held = Small([])
        for n in range(7):
            held.append(str(n))
        values, count, data = held.__getstate__()
        assert data
        refused = 0
        for offset in range(len(data)):
            harmed = data[:offset] + bytes([data[offset] ^ 0xFF]) + data[offset + 1 :]
            other = Small([])
            try:
                other.__setstate__((values, count, harmed))
                list(other)
            except ferroshuffle.CorruptBlockError:
                refused += 1
        assert refused == len(data)
        """
    )
