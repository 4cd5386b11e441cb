"""Run everyday PySpark jobs on real text, on stock PySpark and on ferroshuffle, and compare.

The text is every Python source and licence file of the environment this runs in. Each side of
each job gets a SparkContext of its own, because the memory limit counts the whole worker process
and a reused worker would hand its memory to the other side. Which side goes first alternates.
The exit code is 1 if any result differs.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyspark
from pyspark import RDD, SparkConf, SparkContext

import ferroshuffle

CORES = 2
WORKER_MEMORY = "64m"
SIDES = ("stock", "ferroshuffle")

WORD = re.compile(r"\w+")
LICENCE_FILE = re.compile(r"(LICEN[SC]E|COPYING|NOTICE)", re.IGNORECASE)

LOGGING = """\
rootLogger.level = error
rootLogger.appenderRef.console.ref = console
logger.gateway.name = org.apache.spark.api.python.PythonGatewayServer
logger.gateway.level = error
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c{1}: %m%n%ex
"""


class Job(NamedTuple):
    """One row of the table."""

    name: str
    run: Callable[[RDD[str]], list[Any]]
    """From paths to what the job collects."""
    records: Callable[[list[Any]], int]
    """How many records went into the shuffle, told from what was collected."""
    comparable: Callable[[list[Any]], Any]
    """What was collected, with whatever may come in any order put into one."""


@dataclass
class Outcome:
    """What one side made of a job."""

    result: Any
    records: int
    seconds: float
    memory_spilled: int
    disk_spilled: int


# The jobs.


def word_count(paths: RDD[str]) -> list[tuple[str, int]]:
    return counted_words(paths).collect()


def counted_words(paths: RDD[str]) -> RDD[tuple[str, int]]:
    words = paths.flatMap(lambda path: WORD.findall(text_of(path)))
    return words.map(lambda word: (word, 1)).reduceByKey(lambda a, b: a + b)


def line_length(paths: RDD[str]) -> list[tuple[str, tuple[int, float]]]:
    """For each file type the number of lines and their average length."""
    lengths = paths.flatMap(
        lambda path: [(file_type(path), len(line)) for line in text_of(path).splitlines()]
    )
    totals = lengths.combineByKey(
        lambda length: (1, length),
        lambda total, length: (total[0] + 1, total[1] + length),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
    )
    return totals.mapValues(lambda total: (total[0], total[1] / total[0])).collect()


def inverted_index(paths: RDD[str]) -> list[tuple[str, list[str]]]:
    return words_of_files(paths).groupByKey().mapValues(sorted).collect()


def words_of_files(paths: RDD[str]) -> RDD[tuple[str, str]]:
    return paths.flatMap(lambda path: [(word, path) for word in set(WORD.findall(text_of(path)))])


def top_words(paths: RDD[str]) -> list[tuple[int, str]]:
    by_count = counted_words(paths).map(lambda pair: (pair[1], pair[0]))
    return by_count.sortByKey(ascending=False).collect()


def word_rarity(paths: RDD[str]) -> list[tuple[str, tuple[str, int]]]:
    """For each word of each file, in how many files it occurs: the join that tf-idf needs."""
    occurrences = words_of_files(paths)
    file_counts = occurrences.mapValues(lambda _: 1).reduceByKey(lambda a, b: a + b)
    return occurrences.join(file_counts).collect()


def keys_in_order(pairs: list[tuple[int, str]]) -> tuple[list[int], list[tuple[int, str]]]:
    """The keys as they came, for they were sorted; equal keys may have swapped values."""
    return [key for key, _ in pairs], sorted(pairs)


JOBS = (
    Job(
        "word count (reduceByKey)",
        word_count,
        lambda pairs: sum(count for _, count in pairs),
        sorted,
    ),
    Job(
        "line length (combineByKey)",
        line_length,
        lambda pairs: sum(lines for _, (lines, _) in pairs),
        sorted,
    ),
    Job(
        "inverted index (groupByKey)",
        inverted_index,
        lambda pairs: sum(len(files) for _, files in pairs),
        sorted,
    ),
    Job("top words (sortByKey)", top_words, len, keys_in_order),
    Job("word rarity (join)", word_rarity, len, sorted),
)


# Their input.


def text_files(folder: Path) -> list[str]:
    """Return the paths of the Python sources and licence files under `folder`."""
    return sorted(
        str(path)
        for path in folder.rglob("*")
        if (path.suffix == ".py" or LICENCE_FILE.match(path.name)) and path.is_file()
    )


def text_of(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


def file_type(path: str) -> str:
    return Path(path).suffix or Path(path).name


# Running and measuring them.


@contextmanager
def spark(side: str) -> Iterator[SparkContext]:
    """A context of its own for `side`, its workers started."""
    conf = (
        SparkConf()
        .setMaster(f"local[{CORES}]")
        .setAppName(f"ferroshuffle demo: {side}")
        .set("spark.python.worker.memory", WORKER_MEMORY)
        .set("spark.ui.enabled", "false")
        .set("spark.ui.showConsoleProgress", "false")
    )
    if side == "ferroshuffle":
        ferroshuffle.install()
    try:
        with SparkContext(conf=conf) as sc:
            numbers = sc.range(1_000, numSlices=CORES)
            numbers.map(lambda n: (n % 7, n)).groupByKey().count()
            yield sc
    finally:
        ferroshuffle.uninstall()


def warm_up(paths: list[str]) -> None:
    """Run every job on a few files, so that no side pays for the JVM's first steps."""
    for side in SIDES:
        with spark(side) as sc:
            for job in JOBS:
                job.run(sc.parallelize(paths[:40], CORES))


def measure(job: Job, side: str, paths: list[str]) -> Outcome:
    with spark(side) as sc:
        rdd = sc.parallelize(paths, CORES)
        sc.setJobGroup(job.name, job.name)
        start = time.perf_counter()
        collected = job.run(rdd)
        seconds = time.perf_counter() - start
        memory_spilled, disk_spilled = spilled_bytes(sc, job.name)
    return Outcome(
        job.comparable(collected), job.records(collected), seconds, memory_spilled, disk_spilled
    )


def spilled_bytes(sc: SparkContext, job_group: str) -> tuple[int, int]:
    """Return the bytes of memory and of disk spilled, from Spark's own metrics."""
    scala_context = sc._jsc.sc()
    scala_context.listenerBus().waitUntilEmpty()
    tracker = sc.statusTracker()
    stage_ids = {
        stage_id
        for job_id in tracker.getJobIdsForGroup(job_group)
        for stage_id in tracker.getJobInfo(job_id).stageIds
    }
    stages = [scala_context.statusStore().lastStageAttempt(stage_id) for stage_id in stage_ids]
    return (
        sum(stage.memoryBytesSpilled() for stage in stages),
        sum(stage.diskBytesSpilled() for stage in stages),
    )


# Telling about it.


def table_row(job: Job, stock: Outcome, ours: Outcome) -> list[str]:
    return [
        job.name,
        f"{stock.records:,}",
        "yes" if stock.result == ours.result else "NO",
        f"{stock.seconds:.1f} s",
        f"{ours.seconds:.1f} s",
        f"{stock.seconds / ours.seconds:.2f}x",
        spilled(stock),
        spilled(ours),
    ]


HEADINGS = [
    "job",
    "records",
    "equal",
    "stock",
    "ferroshuffle",
    "ratio",
    "stock spilled",
    "ferroshuffle spilled",
]


def spilled(outcome: Outcome) -> str:
    return f"{outcome.memory_spilled / 1e6:,.1f} / {outcome.disk_spilled / 1e6:,.1f} MB"


def print_table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join([first, *(cell.strip().rjust(len(cell)) for cell in others)]))


def main() -> int:
    paths = text_files(Path(sys.prefix))
    size = sum(Path(path).stat().st_size for path in paths)
    print(
        f"{len(paths):,} Python sources and licence files, {size / 1e6:.1f} MB; "
        f"PySpark {pyspark.__version__}, Python {platform.python_version()}, local[{CORES}], "
        f"spark.python.worker.memory={WORKER_MEMORY}",
        flush=True,
    )
    warm_up(paths)
    rows = [HEADINGS]
    for number, job in enumerate(JOBS):
        order = SIDES if number % 2 == 0 else SIDES[::-1]
        outcomes = {side: measure(job, side, paths) for side in order}
        rows.append(table_row(job, outcomes["stock"], outcomes["ferroshuffle"]))
        times = ", ".join(f"{side} {outcomes[side].seconds:.1f} s" for side in order)
        print(f"[{number + 1}/{len(JOBS)}] {job.name}: {times}", flush=True)
    print()
    print_table(rows)
    print("spilled: bytes of memory / bytes of disk, as Spark's stage metrics have them")
    return 0 if all(row[2] == "yes" for row in rows[1:]) else 1


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # Nothing beyond this machine; its own name need not be one that resolves.
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    with tempfile.TemporaryDirectory() as conf_dir:
        Path(conf_dir, "log4j2.properties").write_text(LOGGING)
        os.environ["SPARK_CONF_DIR"] = conf_dir
        sys.exit(main())
