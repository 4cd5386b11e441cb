"""Spark contexts for the tests, and jobs run on stock PySpark and on ferroshuffle."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pyspark import SparkConf, SparkContext

import ferroshuffle

T = TypeVar("T")

# Has the daemon that forks the workers, in place of PySpark's own.
_PYTHON_PATH = Path(__file__).parent / "python_path"
_REFUSES_STOCK = "FERROSHUFFLE_TEST_REFUSES_STOCK"

DEFAULT_MEMORY = "512m"
# Less than any process has, so every merger and sorter spills.
TINY_MEMORY = "1m"


@contextmanager
def spark_context(master: str, local_dir: Path, settings: dict[str, str]) -> Iterator[SparkContext]:
    """Start a quiet Spark context that writes nowhere but into `local_dir`."""
    conf = SparkConf(loadDefaults=False).setMaster(master).setAppName("ferroshuffle tests")
    conf.setAll(
        {
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            # A JVM of so small jobs spends more on compiling well and collecting than it gains.
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "spark.local.dir": str(local_dir),
            "spark.python.daemon.module": "daemon_of_tests",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            **settings,
        }.items()
    )
    sc = SparkContext(conf=conf, environment={"PYTHONPATH": str(_PYTHON_PATH)})
    try:
        sc.setLogLevel("OFF")  # failing jobs are part of the tests
        yield sc
    finally:
        sc.stop()


def refuse_stock(sc: SparkContext) -> None:
    """Let workers fail from now on where they use a class of stock PySpark."""
    # Spark keeps workers of another environment apart, so those in use are not touched.
    sc.environment[_REFUSES_STOCK] = "1"


@contextmanager
def ferroshuffle_only(sc: SparkContext) -> Iterator[None]:
    """Install ferroshuffle, and let workers fail that use a class of stock PySpark."""
    refuse_stock(sc)
    ferroshuffle.install()
    try:
        yield
    finally:
        ferroshuffle.uninstall()
        del sc.environment[_REFUSES_STOCK]


@contextmanager
def worker_memory(sc: SparkContext, size: str) -> Iterator[None]:
    """Set `spark.python.worker.memory` for the RDDs made within."""
    setting = "spark.python.worker.memory"
    before = sc._conf.get(setting, DEFAULT_MEMORY)
    sc._conf.set(setting, size)
    try:
        yield
    finally:
        sc._conf.set(setting, before)


def on_stock(job: Callable[[SparkContext], T], sc: SparkContext) -> T:
    """Run a job on stock PySpark."""
    assert not ferroshuffle.is_installed()
    return job(sc)


def on_ferroshuffle(job: Callable[[SparkContext], T], sc: SparkContext) -> T:
    """Run a job with ferroshuffle installed, and stock PySpark out of reach."""
    with ferroshuffle_only(sc):
        return job(sc)


def spilled_bytes(sc: SparkContext, group: str) -> tuple[int, int]:
    """Return (memory, disk) bytes that Spark's own task metrics show for a group of jobs."""
    scala_context = sc._jsc.sc()
    scala_context.listenerBus().waitUntilEmpty()
    tracker = sc.statusTracker()
    jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(group)]
    stages = [
        scala_context.statusStore().lastStageAttempt(stage)
        for job in jobs
        if job is not None
        for stage in job.stageIds
    ]
    assert stages, "no stage of this group of jobs is in the status store"
    memory = sum(stage.memoryBytesSpilled() for stage in stages)
    disk = sum(stage.diskBytesSpilled() for stage in stages)
    return memory, disk


def foreign_paths(local_dir: Path) -> list[Path]:
    """
    Return what lies in a local dir of Spark's and is not Spark's own.

    Its block manager keeps blocks in folders with two-digit names; the Python workers of stock
    PySpark write to ``python/<pid>`` beside those.
    """
    return [
        path
        for folder in local_dir.rglob("blockmgr-*")
        for path in folder.rglob("*")
        if not re.fullmatch(r"[0-9a-f]{2}(/[^/]+)?", path.relative_to(folder).as_posix())
    ]
