"""What one measured run knows and finds out: its side, its clock, its memory, what it spilled."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from types import ModuleType

Answer = int | list[int]

# `ru_maxrss` is in KiB on Linux and in bytes on macOS.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def peak_rss() -> int:
    """Return the largest resident set of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


def resident_set() -> int:
    """Return the resident set of this process as it is now, in bytes."""
    # Imported here: no row has to have it loaded before its clock starts.
    import psutil

    return int(psutil.Process().memory_info().rss)


@dataclass
class Result:
    """The outcome of one run, as it goes into the results file. Sizes are in bytes."""

    seconds: float = 0.0
    rss_before: int = 0
    peak_rss: int = 0
    memory_spilled: int = 0
    disk_spilled: int = 0
    # By how much the resident set had grown when the work was done and its outcome still held;
    # 0 in rows that are not about it.
    held: int = 0
    # Differs between sides only if their answers differ.
    answer: Answer = 0


@dataclass
class Run:
    """One workload on one side, in a process of its own."""

    side: str
    records: int
    limit: int | None
    result: Result = field(default_factory=Result)

    @cached_property
    def shuffle(self) -> ModuleType:
        """The side's shuffle module. PySpark's is loaded on both, as it is in every worker."""
        stock = import_module("pyspark.shuffle")
        return import_module("ferroshuffle.shuffle") if self.side == "ours" else stock

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Time the block. What was made before it is collected first, so nobody pays for it."""
        gc.collect()
        self.result.rss_before = peak_rss()
        started = time.perf_counter()
        yield
        self.result.seconds = time.perf_counter() - started
        self.result.peak_rss = peak_rss()

    def count_spilled(self) -> None:
        """Note what this process spilled. Ours counts on PySpark's module where that is loaded."""
        modules = (self.shuffle, import_module("pyspark.shuffle"))
        self.result.memory_spilled = max(module.MemoryBytesSpilled for module in modules)
        self.result.disk_spilled = max(module.DiskBytesSpilled for module in modules)
