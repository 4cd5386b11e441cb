"""The rows of the benchmark table: what each measures, against what, and the ratio asked of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import in_process
import on_spark
from measured import Answer, Run

LIMIT = 128

MANY_KEYS = 400_000
FEW_KEYS = 1_000


@dataclass(frozen=True)
class Workload:
    """One row.

    Attributes
    ----------
    name
        What the command line and the results file call it.
    work
        What the table calls it.
    target
        The least ratio of the baseline's seconds to ours; None where none is asked.
    function
        Does the work and times it; its docstring says what is inside the clock.
    limit
        The memory limit in MiB, None for none (in process) or Spark's default (end to end).
    baseline
        What ours is compared with.
    is_called
        Whether ours calls the functions even where it could compute what they do.
    """

    name: str
    work: str
    target: float | None
    function: Callable[[Run], Answer]
    limit: int | None = None
    baseline: str = "stock"
    is_called: bool = False

    @property
    def timed(self) -> str:
        """What the clock sees."""
        function = self.function.func if isinstance(self.function, partial) else self.function
        return " ".join((inspect.getdoc(function) or "").split())


def merger_rows() -> Iterator[Workload]:
    """Yield the rows about one merger: those whose functions can be computed."""
    key: Callable[[int], Any]
    for keys, target in ((FEW_KEYS, 4.0), (MANY_KEYS, 1.7)):
        for kind, key in (("int", int), ("str", in_process.as_str)):
            yield Workload(
                f"merge-{kind}-{keys}",
                f"`mergeValues`, {kind} keys, Python lambda, {keys:,} keys",
                target,
                partial(in_process.merge_values, keys=keys, key=key),
            )
    yield Workload(
        f"append-{MANY_KEYS}",
        f"list append, {MANY_KEYS:,} keys",
        1.6,
        partial(in_process.append_values, keys=MANY_KEYS),
    )
    yield Workload(
        "merge-distinct-limit",
        "`mergeValues` + `items()`, all keys distinct",
        8.0,
        in_process.merge_distinct,
        LIMIT,
    )
    yield Workload(
        "group-combiners-limit",
        f"`ExternalGroupBy.mergeCombiners`, {MANY_KEYS:,} keys",
        3.0,
        partial(in_process.group_combiners, keys=MANY_KEYS),
        LIMIT,
    )
    yield Workload(
        "group-values-limit",
        f"`ExternalGroupBy.mergeValues`, {MANY_KEYS:,} keys",
        3.0,
        partial(in_process.group_values, keys=MANY_KEYS),
        LIMIT,
    )


def in_process_rows() -> Iterator[Workload]:
    """Yield the rows that need no Spark."""
    key: Callable[[int], Any]
    for row in merger_rows():
        yield row
        work = f"{row.work}, functions called"
        yield replace(row, name=f"{row.name}-called", work=work, is_called=True)
    sort_keys: tuple[tuple[str, Callable[[int], Any], float, float], ...] = (
        ("int", int, 1.3, 2.0),
        ("str", in_process.as_str, 1.0, 1.0),
        ("tuple", in_process.as_tuple, 1.0, 1.0),
    )
    for kind, key, target, limit_target in sort_keys:
        work = f"`ExternalSorter`, `key=lambda kv: kv[0]`, {kind} keys"
        function = partial(in_process.sort_pairs, key=key)
        yield Workload(f"sort-{kind}", work, target, function)
        yield Workload(f"sort-{kind}-limit", work, limit_target, function, LIMIT)
    for keys in (FEW_KEYS, MANY_KEYS):
        yield Workload(
            f"reduceby-{keys}",
            f"`cytoolz.reduceby` on the same lambda, {keys:,} keys",
            1.0,
            partial(in_process.reduce_by, keys=keys),
            baseline="cytoolz",
        )
    yield Workload("import", "importing the module", None, in_process.import_module_alone)


def spark_rows() -> Iterator[Workload]:
    """Yield the rows that run a Spark job."""
    group = partial(on_spark.group_by_key, keys=MANY_KEYS)
    for suffix, limit, reduce_target, group_target in (
        ("", None, 1.15, 1.1),
        ("-limit", LIMIT, 5.0, 3.0),
    ):
        yield Workload(
            f"spark-reduce{suffix}",
            "`reduceByKey`, opaque function, all keys distinct",
            reduce_target,
            on_spark.reduce_by_key,
            limit,
        )
        yield Workload(
            f"spark-group{suffix}",
            f"`groupByKey`, {MANY_KEYS:,} keys",
            group_target,
            group,
            limit,
        )
    yield Workload(
        "spark-distinct",
        f"`distinct`, {MANY_KEYS:,} keys",
        1.0,
        partial(on_spark.distinct, keys=MANY_KEYS),
    )
    yield Workload("spark-join", "`join`, every key once on either side", 1.0, on_spark.join)
    yield Workload("spark-sort", "`sortByKey`", 1.0, on_spark.sort_by_key)
    for name, workers, jobs, reuse in (
        ("spark-tiny", "workers reused", on_spark.TINY_JOBS, True),
        ("spark-tiny-fork", "a new worker a task", on_spark.TINY_JOBS_WITH_NEW_WORKERS, False),
    ):
        function = partial(on_spark.tiny_jobs, jobs=jobs, reuse_workers=reuse)
        yield Workload(name, f"{jobs} tiny jobs, {workers}", 1.0, function)


WORKLOADS = (*in_process_rows(), *spark_rows())


def select(part: str) -> list[Workload]:
    """Return the row of that name, or else the rows whose name contains it."""
    return [row for row in WORKLOADS if row.name == part] or [
        row for row in WORKLOADS if part in row.name
    ]
