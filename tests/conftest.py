"""Profiles, local dirs and the leak check that every test runs under."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy  # noqa: F401  its threads start here, before any test counts threads
import pytest
from hypothesis import HealthCheck, settings

import ferroshuffle.native  # noqa: F401  its constants live from here on, before any test counts

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fast", max_examples=75, **_COMMON)
settings.register_profile("slow", max_examples=600, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# Far above any machine's memory: with it a merger or a sorter never spills.
NO_LIMIT_MIB = 1 << 30

_SPARK_TESTS = Path(__file__).parent / "spark"
_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    report = yield
    if report.failed or hasattr(report, "wasxfail"):
        item.stash[_failed] = True
    return report


@pytest.fixture(scope="session")
def memory_limit() -> float:
    """A limit in MiB that is never reached, or FERROSHUFFLE_TEST_LIMIT, which makes all spill."""
    return float(os.environ.get("FERROSHUFFLE_TEST_LIMIT", NO_LIMIT_MIB))


@pytest.fixture
def local_dirs(_local_dirs: list[Path]) -> list[Path]:
    """The two local dirs that SPARK_LOCAL_DIRS names during the test; empty before and after."""
    return _local_dirs


@pytest.fixture(autouse=True)
def _local_dirs(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> list[Path]:
    if _SPARK_TESTS in request.node.path.parents:
        return []  # a cluster lives longer than a test, and has dirs of its own
    base = tmp_path_factory.mktemp("local")
    dirs = [base / "first", base / "second"]
    for folder in dirs:
        folder.mkdir()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", ",".join(map(str, dirs)))
    monkeypatch.delenv("SPARK_LOCAL_DIR", raising=False)
    return dirs


@pytest.fixture(scope="session", autouse=True)
def _stock_deletes_its_own_only() -> Iterator[None]:
    """Keep stock's `_cleanup`, which removes trees, to the folders that it made for itself.

    It removes each of its `localdirs` whatever that is: given one string in place of a list, it
    takes the string's first letter for a directory, and ``/`` is one.
    """
    remove = shutil.rmtree

    def remove_own(path: str, *args: object, **kwargs: object) -> None:
        own = os.path.join("python", str(os.getpid()), "")
        if own not in os.path.join(os.path.abspath(path), ""):
            raise AssertionError(f"stock PySpark was about to remove {path!r}")
        remove(path, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyspark.shuffle.shutil", SimpleNamespace(rmtree=remove_own))
        yield


@pytest.fixture(autouse=True)
def _nothing_leaks(request: pytest.FixtureRequest, _local_dirs: list[Path]) -> Iterator[None]:
    """Fail a test that leaves behind a descriptor, a thread, a file or an object of ours."""
    with_spark = _SPARK_TESTS in request.node.path.parents
    gc.collect()
    gc.freeze()  # what lives by now stays: the collections of the test need not walk over it
    files, threads, objects = open_files(), thread_count(), our_objects()
    yield
    if request.node.stash.get(_failed, False):
        return  # its traceback still holds what the test held
    gc.collect()
    assert not open_files() - files, "file descriptors left open"
    assert not our_objects() - objects, "objects of ferroshuffle left alive"
    for folder in _local_dirs:
        assert not list(folder.rglob("*")), "files or folders left in a local dir"
    if not with_spark:  # py4j has threads of its own
        deadline = time.monotonic() + 5  # the system counts a joined thread for a moment more
        while thread_count() > threads and time.monotonic() < deadline:
            time.sleep(0.01)
        assert thread_count() <= threads, "threads left running"


def open_files() -> Counter[str]:
    """Return the targets of this process's descriptors, without sockets and pipes."""
    targets: Counter[str] = Counter()
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:  # the descriptor that listdir itself used
            continue
        if target.startswith("/") and not target.startswith(("/proc/", "/dev/")):
            targets[target] += 1
    return targets


def thread_count() -> int:
    """Return the number of threads of this process, native ones included."""
    return len(os.listdir("/proc/self/task"))


def our_objects() -> Counter[str]:
    """Count the live objects, of those the collector tracks, whose type is ferroshuffle's.

    Without what a Spark context keeps as long as it is there, of a limited number of shuffles.
    """
    counts: Counter[str] = Counter()
    if "ferroshuffle" in sys.modules:
        for thing in gc.get_objects():
            kind = type(thing)
            if str(getattr(kind, "__module__", "")).partition(".")[0] == "ferroshuffle":
                counts[kind.__qualname__] += 1
    for kept in ("ShufflesOfContext", "CountsParam", "ExplainedShuffle"):
        del counts[kept]
    return counts
