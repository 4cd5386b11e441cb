"""`ferroshuffle.explain`: which shuffles an RDD needs, and what is computed in them."""

from __future__ import annotations

import gc
import heapq
import inspect
import operator
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark import RDD, SparkContext

import ferroshuffle


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    ferroshuffle.install()
    yield
    ferroshuffle.uninstall()


def explained(rdd: Any) -> list[tuple[str, str | None]]:
    explanation = ferroshuffle.explain(rdd)
    return [(each.operation, each.aggregate or each.reason) for each in explanation.shuffles]


MOVED = "records are moved and not merged"
OPERATIONS: dict[str, tuple[Callable[[Any], Any], list[tuple[str, str]]]] = {
    "reduceByKey": (
        lambda rdd: rdd.reduceByKey(lambda a, b: a + b),
        [("reduceByKey", "sum of value")],
    ),
    "max": (lambda rdd: rdd.reduceByKey(max), [("reduceByKey", "max of value")]),
    "combineByKey": (
        lambda rdd: rdd.combineByKey(
            lambda v: (v, 1),
            lambda c, v: (c[0] + v, c[1] + 1),
            lambda a, b: (a[0] + b[0], a[1] + b[1]),
        ),
        [("combineByKey", "(sum of value, count)")],
    ),
    "groupByKey": (lambda rdd: rdd.groupByKey(), [("groupByKey", "list of value")]),
    "distinct": (lambda rdd: rdd.distinct(), [("distinct", "first value")]),
    "aggregateByKey": (
        lambda rdd: rdd.aggregateByKey(
            (0, 0),
            lambda c, v: (c[0] + v, c[1] + 1),
            lambda a, b: (a[0] + b[0], a[1] + b[1]),
        ),
        [("aggregateByKey", "(sum of value, count)")],
    ),
    "foldByKey": (
        lambda rdd: rdd.foldByKey(0, lambda a, b: a + b),
        [("foldByKey", "sum of value")],
    ),
    "aggregateByKey from a list": (
        lambda rdd: rdd.aggregateByKey([], lambda c, v: c + [v], lambda a, b: a + b),
        [("aggregateByKey", "[] + [value], then + [value], merged + value")],
    ),
    "aggregateByKey into sets": (
        lambda rdd: rdd.aggregateByKey(set(), lambda s, v: s.add(v) or s, lambda a, b: a | b),
        [("aggregateByKey", "set of value")],
    ),
    "behind a map": (
        lambda rdd: rdd.reduceByKey(min).map(lambda kv: kv),
        [("reduceByKey", "min of value")],
    ),
    "sortByKey": (lambda rdd: rdd.sortByKey(numPartitions=2), [("sortByKey", "order of key")]),
    "sortByKey, keyfunc": (
        lambda rdd: rdd.map(lambda kv: (kv, 1)).sortByKey(True, 2, lambda k: (k[1], -k[0])),
        [("sortByKey", "order of (key[1], (- key[0]))")],
    ),
    "sortByKey, a function that is called": (
        lambda rdd: rdd.sortByKey(True, 2, lambda key: hash(key)),
        [("sortByKey", "`key` calls `hash`, which is not recognised")],
    ),
    "repartitionAndSortWithinPartitions": (
        lambda rdd: rdd.repartitionAndSortWithinPartitions(2, keyfunc=lambda key: key.lower()),
        [("repartitionAndSortWithinPartitions", "order of key.lower()")],
    ),
    "sortBy": (
        lambda rdd: rdd.sortBy(lambda pair: pair[1], numPartitions=2),
        [("sortBy", "order of key")],
    ),
    "partitioned after it was merged": (
        lambda rdd: rdd.reduceByKey(min).partitionBy(5),
        [("reduceByKey", "min of value"), ("partitionBy", MOVED)],
    ),
    "two, one after the other": (
        lambda rdd: rdd.reduceByKey(min).map(lambda kv: (kv[1], 1)).reduceByKey(max),
        [("reduceByKey", "min of value"), ("reduceByKey", "max of value")],
    ),
    "union": (
        lambda rdd: rdd.reduceByKey(min).union(rdd.reduceByKey(max)),
        [("reduceByKey", "min of value"), ("reduceByKey", "max of value")],
    ),
    "union of one with itself": (
        lambda rdd: (lambda one: one.union(one))(rdd.reduceByKey(min)),
        [("reduceByKey", "min of value")],
    ),
    "SparkContext.union": (
        lambda rdd: rdd.ctx.union([rdd.reduceByKey(min), rdd, rdd.reduceByKey(max)]),
        [("reduceByKey", "min of value"), ("reduceByKey", "max of value")],
    ),
    "cartesian": (
        lambda rdd: rdd.reduceByKey(min).cartesian(rdd),
        [("reduceByKey", "min of value")],
    ),
    "zip": (
        lambda rdd: rdd.reduceByKey(min).zip(rdd.reduceByKey(max)),
        [("reduceByKey", "min of value"), ("reduceByKey", "max of value")],
    ),
    "coalesce": (
        lambda rdd: rdd.reduceByKey(min).coalesce(1),
        [("reduceByKey", "min of value")],
    ),
    "repartition": (
        lambda rdd: rdd.reduceByKey(min).repartition(3),
        [("reduceByKey", "min of value")],
    ),
    "cached": (
        lambda rdd: rdd.reduceByKey(min).cache().mapValues(str),
        [("reduceByKey", "min of value")],
    ),
    "join": (lambda rdd: rdd.join(rdd.reduceByKey(min)), [
        ("join", "list of value"),
        ("reduceByKey", "min of value"),
        ("join", "list of value"),
    ]),
    "no shuffle": (lambda rdd: rdd.map(lambda kv: kv), []),
}  # fmt: skip


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_operations(sc: SparkContext, operation: str) -> None:
    make, expected = OPERATIONS[operation]
    assert explained(make(sc.parallelize([(1, 2), (2, 3)], 2))) == expected


def keep_best(best: list[int], value: int) -> list[int]:
    heapq.heappush(best, value)
    return best


def test_why_functions_are_called(sc: SparkContext) -> None:
    pairs = sc.parallelize([(1, 2)])
    for rdd, reason in (
        (
            pairs.combineByKey(lambda v: [v], keep_best, lambda a, b: a + b),
            "`mergeValue` calls `heappush`, which is not recognised",
        ),
        (
            pairs.reduceByKey(lambda a, b: a.intersection(b)),
            "values are merged by `intersection`, which has no native form",
        ),
        (
            pairs.combineByKey(lambda v: 1j, max, max),
            "there is a constant of a type that has no column",
        ),
    ):
        [shuffle] = ferroshuffle.explain(rdd).shuffles
        assert (shuffle.aggregate, shuffle.reason) == (None, reason)


@pytest.mark.parametrize(
    ("functions", "words"),
    [
        ((lambda v: v, lambda c, v: c + v, max), "value, then + value, merged replaced by value"),
        ((lambda v: 0, lambda c, v: c + v, operator.add), "0, then + value, merged + value"),
        ((lambda v: 0, lambda c, v: c + 1, operator.add), "0, then + 1, merged + value"),
        ((lambda v: 0 + v, lambda c, v: c + v, operator.add), "sum of value"),
        ((lambda v: 100 + v, lambda c, v: c + v, operator.add), "100 + value, then + value"),
        ((lambda v: v, lambda c, v: c, lambda a, b: b), "value, then kept, merged replaced by"),
        ((lambda v: v[1], lambda c, v: v[1], lambda a, b: b), "last value[1]"),
        ((lambda v: v * v, lambda c, v: c + v * v, operator.add), "sum of (value * value)"),
        ((lambda v: v, lambda c, v: c + "," + v, operator.add), "value, then + ',' + value"),
        ((lambda v: v, lambda c, v: c * v, operator.mul), "value, then replaced by (it * value)"),
        (
            (lambda v: v, lambda c, v: c if c is not None else -v, max),
            "value, then replaced by (- value) if (it is None)",
        ),
        (
            (lambda v: v, lambda c, v: c if v[0] else max(c, abs(v[1]), len(v[2])), max),
            "value, then replaced by (it if value[0] else max(it, abs(value[1]), len(value[2])))",
        ),
        (
            (lambda v: (v,), lambda c, v: (min(c[0], v),), lambda a, b: (min(a[0], b[0]),)),
            "(min of",
        ),
    ],
)
def test_words(sc: SparkContext, functions: Any, words: str) -> None:
    [shuffle] = ferroshuffle.explain(sc.parallelize([(1, 2)]).combineByKey(*functions)).shuffles
    assert str(shuffle.aggregate).startswith(words)


def test_variables_of_a_program_are_constants_of_a_job(sc: SparkContext) -> None:
    for factor in (2, 3):

        def times(a: int, b: int) -> int:
            return a + b * factor  # noqa: B023 (Spark sends it as it is now)

        merged = sc.parallelize([(1, 2), (1, 4)], 1).combineByKey(lambda v: v, times, times)
        [shuffle] = ferroshuffle.explain(merged).shuffles
        words = f"value, then + (value * {factor}), merged + (value * {factor})"
        assert (shuffle.aggregate, shuffle.reason) == (words, None)
        assert merged.collect() == [(1, 2 + 4 * factor)]


def test_long_constants_are_cut(sc: SparkContext) -> None:
    text = "x" * 900
    rdd = sc.parallelize([(1, 2)]).combineByKey(lambda v: text, lambda c, v: c, lambda a, b: a)
    assert len(repr(ferroshuffle.explain(rdd))) < 1_000


def test_columns_may_be_off(sc: SparkContext) -> None:
    pairs = sc.parallelize([(1, 2)])
    sc._conf.set("spark.ferroshuffle.enabled", "false")
    try:
        rdd = pairs.reduceByKey(max)
    finally:
        sc._conf.set("spark.ferroshuffle.enabled", "true")
    assert explained(rdd) == [("reduceByKey", "spark.ferroshuffle.enabled is false")]
    assert explained(pairs.reduceByKey(max)) == [("reduceByKey", "max of value")]


def test_call_sites_and_partitions(sc: SparkContext) -> None:
    pairs = sc.parallelize([(1, 2)])
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    rdd = pairs.groupByKey(3).mapValues(len).partitionBy(7)
    shuffles = ferroshuffle.explain(rdd).shuffles
    assert [each.call_site for each in shuffles] == [f"{__file__}:{line}"] * 2
    assert [each.partitions for each in shuffles] == [3, 7]


def test_what_it_looks_like(sc: SparkContext) -> None:
    explanation = ferroshuffle.explain(sc.parallelize([(1, 2)]).reduceByKey(max, 4).partitionBy(5))
    [heading, rule, first, second] = repr(explanation).splitlines()
    assert heading == "operation    partitions  recognised as" + " " * 25 + "call site"
    assert set(rule) == {"-", " "}
    assert first.startswith("reduceByKey  4           max of value")
    assert second.startswith("partitionBy  5           no: records are moved and not merged  ")
    assert {len(line) for line in (rule, first, second)} == {len(rule)}
    page = explanation._repr_html_()
    assert page.count("<tr>") == 3
    assert "<td>max of value</td>" in page
    assert explanation.to_dict()["shuffles"][0] == {
        "operation": "reduceByKey",
        "call_site": explanation.shuffles[0].call_site,
        "partitions": 4,
        "aggregate": "max of value",
        "reason": None,
    }


def test_html_is_escaped(sc: SparkContext) -> None:
    pairs = sc.parallelize([(1, 2)])
    rdd = pairs.reduceByKey(lambda a, b: a if a[0] > b else b)
    assert "unless it[0] &gt; value, merged" in ferroshuffle.explain(rdd)._repr_html_()


def test_without_a_shuffle(sc: SparkContext) -> None:
    explanation = ferroshuffle.explain(sc.parallelize([1]))
    assert explanation.to_dict() == {"shuffles": []}
    assert "no shuffle by key" in repr(explanation)
    assert "no shuffle by key" in explanation._repr_html_()


def test_only_an_rdd_is_explained() -> None:
    with pytest.raises(TypeError, match="an RDD, not about 'list'"):
        ferroshuffle.explain([])


def test_what_was_made_before_installing_is_not_known(sc: SparkContext) -> None:
    ferroshuffle.uninstall()
    stock = sc.parallelize([(1, 2)]).reduceByKey(max)
    ferroshuffle.install()
    assert explained(stock) == []
    assert explained(stock.map(tuple).reduceByKey(min)) == [("reduceByKey", "min of value")]


def test_nothing_is_known_from_behind_a_checkpoint(sc: SparkContext, tmp_path: Path) -> None:
    sc.setCheckpointDir(str(tmp_path))
    before = sc.parallelize([(1, 2)], 1).reduceByKey(max)
    before.checkpoint()
    after = before.map(lambda kv: kv).reduceByKey(min)
    assert len(explained(after)) == 2  # it has yet to be written
    assert before.collect() == [(1, 2)]
    assert explained(before) == []
    assert explained(before.map(lambda kv: kv).reduceByKey(min)) == [
        ("reduceByKey", "min of value")
    ]


def test_thousands_of_shuffles(sc: SparkContext) -> None:
    rdd = sc.parallelize([(1, 2)], 1)
    for turn in range(1_200):
        rdd = rdd.partitionBy(turn % 2 + 1)
    assert len(explained(rdd)) == 1_200


def test_what_functions_refer_to_is_not_kept(sc: SparkContext) -> None:
    class Model:
        pass

    def shuffled(model: Model) -> RDD:
        mapped = sc.parallelize([1], 1).map(lambda record: (record, model is None))
        reduced = mapped.reduceByKey(lambda a, b: a if model else b)
        return reduced.map(lambda record: record).partitionBy(2)

    model = Model()
    held = weakref.ref(model)
    rdd = shuffled(model)
    del model
    gc.collect()
    assert len(explained(rdd)) == 2
    assert held() is None


def test_uninstalling_gives_every_method_back(sc: SparkContext) -> None:
    names = [(RDD, name) for name in ("partitionBy", "union", "cartesian", "zip", "coalesce")]
    for owner, name in [*names, (SparkContext, "union")]:
        assert hasattr(getattr(owner, name), "__wrapped__")
    ferroshuffle.uninstall()
    for owner, name in [*names, (SparkContext, "union")]:
        assert getattr(owner, name).__module__.startswith("pyspark")
        assert not hasattr(getattr(owner, name), "__wrapped__")
