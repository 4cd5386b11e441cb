"""A worker killed while it spills leaves nothing in the local dirs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.children import command

ENDLESS = {
    "merger": """
        import itertools
        from ferroshuffle import shuffle
        print("started", flush=True)
        merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(max), 1, batch=100)
        merger.mergeValues((n, str(n) * 5) for n in itertools.count())
    """,
    "sorter": """
        import itertools
        from ferroshuffle import shuffle
        print("started", flush=True)
        shuffle.ExternalSorter(1).sorted(itertools.count())
    """,
    "list": """
        import itertools
        from ferroshuffle import shuffle
        print("started", flush=True)
        held = shuffle.ExternalList([])
        for n in itertools.count():
            held.append(n)
    """,
}


def spilled_bytes(pid: int, base: Path) -> int:
    """Return the size of the nameless files that process `pid` has open below `base`."""
    total = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if str(entry.readlink()).startswith(str(base)):
                total += entry.stat().st_size
        except OSError:
            continue
    return total


@pytest.mark.parametrize("what", sorted(ENDLESS))
@pytest.mark.parametrize("delay", [0, 0.013, 0.05, 0.11])
def test_sigkill_while_spilling_leaves_no_file_and_no_folder(
    what: str, delay: float, local_dirs: list[Path]
) -> None:
    base = local_dirs[0].parent
    with subprocess.Popen(command(ENDLESS[what]), stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"started\n"
            deadline = time.monotonic() + 60
            while spilled_bytes(child.pid, base) == 0:
                assert time.monotonic() < deadline, "nothing was spilled"
                assert child.poll() is None, "ended by itself"
                time.sleep(0.001)
            time.sleep(delay)
        finally:
            os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    for folder in local_dirs:
        assert list(folder.rglob("*")) == []
