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

# The numbers of keys in the curves; None is as many as there are records.
CURVE_KEYS = (1_000, 10_000, 100_000, 400_000, 1_000_000, None)

# The lines of a curve, by side and limit. A DataFrame's memory is the JVM's: the limit, which is
# about Python workers, means nothing to it.
CURVE_LINES = (
    ("stock", None),
    ("ours", None),
    ("dataframe", None),
    ("stock", LIMIT),
    ("ours", LIMIT),
)


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
    most_held
        The most bytes a record that ours may hold when the work is done. A row that asks for it is
        about memory, and None in all others.
    """

    name: str
    work: str
    target: float | None
    function: Callable[[Run], Answer]
    limit: int | None = None
    baseline: str = "stock"
    is_called: bool = False
    most_held: int | None = None

    @property
    def timed(self) -> str:
        """What the clock sees."""
        function = self.function.func if isinstance(self.function, partial) else self.function
        return " ".join((inspect.getdoc(function) or "").split())


def merger_rows() -> Iterator[tuple[Workload, float]]:
    """Yield the rows about one merger that are measured with functions called as well.

    Beside each is the target asked of it then.
    """
    key: Callable[[int], Any]
    for keys, called_target, int_target, str_target in (
        (FEW_KEYS, 4.0, 15.0, 4.0),
        (MANY_KEYS, 1.7, 12.0, 10.0),
    ):
        for kind, key, target in (("int", int, int_target), ("str", in_process.as_str, str_target)):
            row = Workload(
                f"merge-{kind}-{keys}",
                f"`mergeValues`, {kind} keys, Python lambda, {keys:,} keys",
                target,
                partial(in_process.merge_values, keys=keys, key=key),
            )
            yield row, called_target
    append = Workload(
        f"append-{MANY_KEYS}",
        f"list append, {MANY_KEYS:,} keys",
        1.6,
        partial(in_process.append_values, keys=MANY_KEYS),
    )
    yield append, 1.6
    merge_distinct = Workload(
        "merge-distinct-limit",
        "`mergeValues` + `items()`, all keys distinct",
        20.0,
        in_process.merge_distinct,
        LIMIT,
    )
    yield merge_distinct, 8.0
    group_combiners = Workload(
        "group-combiners-limit",
        f"`ExternalGroupBy.mergeCombiners`, {MANY_KEYS:,} keys",
        3.0,
        partial(in_process.group_combiners, keys=MANY_KEYS),
        LIMIT,
    )
    yield group_combiners, 3.0
    group_values = Workload(
        "group-values-limit",
        f"`ExternalGroupBy.mergeValues`, {MANY_KEYS:,} keys",
        3.0,
        partial(in_process.group_values, keys=MANY_KEYS),
        LIMIT,
    )
    yield group_values, 3.0


def typed_merger_rows() -> Iterator[Workload]:
    """Yield the rows about one merger that are about what can be computed only."""
    yield Workload(
        "merge-int-distinct",
        "`mergeValues`, int keys, Python lambda, all keys distinct",
        6.0,
        partial(in_process.merge_values, keys=in_process.DISTINCT, key=int),
    )
    yield Workload(
        f"merge-tuple-{MANY_KEYS}",
        f"`mergeValues`, (str, int) keys, Python lambda, {MANY_KEYS:,} keys",
        7.0,
        partial(in_process.merge_values, keys=MANY_KEYS, key=in_process.as_str_and_int),
    )
    yield Workload(
        f"average-{MANY_KEYS}",
        f"`mergeValues`, `(v, 1)` to a sum and a count, {MANY_KEYS:,} keys",
        15.0,
        partial(in_process.average_values, keys=MANY_KEYS),
    )
    yield Workload(
        f"append-read-{MANY_KEYS}",
        f"list append, {MANY_KEYS:,} keys, read by `len` and by iteration",
        10.0,
        partial(in_process.read_groups, keys=MANY_KEYS),
    )
    yield Workload(
        f"sets-{MANY_KEYS}",
        f"`mergeValues`, `add` to a set, {MANY_KEYS:,} keys",
        None,
        partial(in_process.set_values, keys=MANY_KEYS),
    )
    yield Workload(
        "held-distinct",
        "`mergeValues`, (int, int) pairs, all keys distinct",
        None,
        in_process.hold_distinct,
        most_held=40,
    )


def in_process_rows() -> Iterator[Workload]:
    """Yield the rows that need no Spark."""
    key: Callable[[int], Any]
    for row, target in merger_rows():
        yield row
        work = f"{row.work}, functions called"
        yield replace(row, name=f"{row.name}-called", work=work, target=target, is_called=True)
    yield from typed_merger_rows()
    sort_keys: tuple[tuple[str, Callable[[int], Any], float, float], ...] = (
        ("int", int, 5.0, 5.0),
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
        ("", None, 1.15, 3.5),
        ("-limit", LIMIT, 5.0, 12.0),
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
            f"`groupByKey().mapValues(len)`, {MANY_KEYS:,} keys",
            group_target,
            group,
            limit,
        )
    yield Workload(
        "spark-group-sum",
        f"`groupByKey().mapValues(sum)`, {MANY_KEYS:,} str keys",
        3.0,
        partial(on_spark.sum_groups, keys=MANY_KEYS),
    )
    yield from sum_rows()
    yield Workload(
        "spark-words",
        f"word count, {MANY_KEYS:,} words",
        2.2,
        partial(on_spark.count_words, words=MANY_KEYS),
    )
    yield Workload(
        "spark-average",
        f"`aggregateByKey` to a sum and a count, {MANY_KEYS:,} keys",
        None,
        partial(on_spark.average_by_key, keys=MANY_KEYS),
    )
    yield Workload(
        "spark-distinct",
        f"`distinct`, {MANY_KEYS:,} keys",
        2.0,
        partial(on_spark.distinct, keys=MANY_KEYS),
    )
    yield Workload("spark-join", "`join`, every key once on either side", 1.0, on_spark.join)
    for operation, limit, target in (
        ("join", None, 5.0),
        ("join", LIMIT, 7.0),
        ("leftOuterJoin", None, 4.0),
        ("cogroup", None, 4.0),
    ):
        yield Workload(
            f"spark-many-{operation}" + ("-limit" if limit else ""),
            f"`{operation}` with a tenth of the records, {MANY_KEYS:,} keys",
            target,
            partial(on_spark.join_many_with_few, operation=operation, keys=MANY_KEYS),
            limit,
        )
    sort = on_spark.sort_by_key
    yield Workload("spark-sort", "`sortByKey`, int keys", 2.2, sort)
    yield Workload("spark-sort-limit", "`sortByKey`, int keys", 2.5, sort, LIMIT)
    sort_texts = partial(sort, has_texts=True)
    yield Workload("spark-sort-str", "`sortByKey`, str keys", 1.8, sort_texts)
    yield Workload(
        "dataframe-group",
        f"`groupByKey`, against a DataFrame's `collect_list`, {MANY_KEYS:,} keys",
        1.0,
        partial(on_spark.group_as_dataframe, keys=MANY_KEYS),
        baseline="dataframe",
    )
    yield Workload(
        "dataframe-sort",
        "`sortByKey`, against a DataFrame's `orderBy`",
        None,
        on_spark.sort_as_dataframe,
        baseline="dataframe",
    )
    yield Workload(
        "dataframe-join",
        f"`join` with a tenth of the records, against a DataFrame's, {MANY_KEYS:,} keys",
        None,
        partial(on_spark.join_as_dataframe, keys=MANY_KEYS),
        baseline="dataframe",
    )
    for name, workers, jobs, reuse in (
        ("spark-tiny", "workers reused", on_spark.TINY_JOBS, True),
        ("spark-tiny-fork", "a new worker a task", on_spark.TINY_JOBS_WITH_NEW_WORKERS, False),
    ):
        function = partial(on_spark.tiny_jobs, jobs=jobs, reuse_workers=reuse)
        yield Workload(name, f"{jobs} tiny jobs, {workers}", 1.0, function)


def sum_rows() -> Iterator[Workload]:
    """Yield the rows about a sum by key in Spark, against stock and against a DataFrame."""
    keys: int | None
    for keys, limit, target in (
        (FEW_KEYS, None, 1.6),
        (MANY_KEYS, None, 2.5),
        (None, None, 3.0),
        (None, LIMIT, 25.0),
    ):
        yield Workload(
            f"spark-sum-{keys or 'distinct'}" + ("-limit" if limit else ""),
            f"`reduceByKey(lambda a, b: a + b)`, {number_of_keys(keys)}",
            target,
            partial(on_spark.sum_by_key, keys=keys),
            limit,
        )
    for keys in (MANY_KEYS, None):
        yield Workload(
            f"dataframe-{keys or 'distinct'}",
            f"the same sum against a DataFrame's `groupBy().sum()`, {number_of_keys(keys)}",
            1.0,
            partial(on_spark.sum_as_dataframe, keys=keys),
            baseline="dataframe",
        )


def number_of_keys(keys: int | None) -> str:
    """Return a number of keys for people; None is as many as there are records."""
    return "all keys distinct" if keys is None else f"{keys:,} keys"


# The curves: what each is about, as an RDD does it and as a DataFrame does.
CURVES: dict[str, tuple[str, Callable[..., Answer], Callable[..., Answer]]] = {
    "sum": ("reduceByKey", on_spark.sum_by_key, on_spark.sum_as_dataframe),
    "group": ("groupByKey", on_spark.group_by_key, on_spark.group_as_dataframe),
    "sort": ("sortByKey", on_spark.sort_by_key, on_spark.sort_as_dataframe),
}


def curve_row(curve: str, keys: int | None, side: str, limit: int | None) -> Workload:
    """Return what a point of a curve of times against numbers of keys is measured by."""
    name = f"curve-{curve}-{keys or 'distinct'}-{side}" + ("-limit" if limit else "")
    operation, on_rdd, on_dataframe = CURVES[curve]
    function = partial(on_dataframe if side == "dataframe" else on_rdd, keys=keys)
    return Workload(name, f"`{operation}`, {number_of_keys(keys)}", None, function, limit)


WORKLOADS = (*in_process_rows(), *spark_rows())

# Not in the table: the points of the curves.
POINTS = tuple(
    curve_row(curve, keys, *line) for curve in CURVES for keys in CURVE_KEYS for line in CURVE_LINES
)


def select(part: str) -> list[Workload]:
    """Return the row of that name, or else the rows of the table whose name contains it."""
    return [row for row in (*WORKLOADS, *POINTS) if row.name == part] or [
        row for row in WORKLOADS if part in row.name
    ]
