"""install() and uninstall(): what they change in PySpark, and what they leave alone."""

from __future__ import annotations

import inspect
import operator
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

import pyspark
import pyspark.shuffle
import pytest
from pyspark import RDD, SparkContext
from pyspark.cloudpickle import CloudPickler

import ferroshuffle
import ferroshuffle.shuffle
from ferroshuffle.spark import versions

RDD_MODULE = sys.modules["pyspark.rdd"]
CLASSES = (
    "Aggregator",
    "SimpleAggregator",
    "Merger",
    "ExternalMerger",
    "ExternalSorter",
    "ExternalList",
    "ExternalListOfList",
    "GroupByKey",
    "ExternalGroupBy",
)
FUNCTIONS = ("get_used_memory", "_get_local_dirs", "_compressed_serializer")
IMPORTED_BY_RDD = (
    "Aggregator",
    "ExternalMerger",
    "ExternalSorter",
    "ExternalGroupBy",
    "get_used_memory",
)


@pytest.fixture
def installed() -> Iterator[None]:
    ferroshuffle.install()
    yield
    ferroshuffle.uninstall()


def pyspark_globals() -> dict[str, dict[str, object]]:
    """Return the globals of every PySpark module, and what pickles PySpark's functions."""
    found = {
        name: dict(vars(module))
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "pyspark" and isinstance(module, ModuleType)
    }
    return {**found, "CloudPickler": dict(vars(CloudPickler)), "RDD": dict(vars(RDD))}


def differences(before: dict[str, dict[str, object]]) -> set[tuple[str, str]]:
    return {
        (module, name)
        for module, now in pyspark_globals().items()
        for name in now.keys() | before[module].keys()
        if now.get(name) is not before[module].get(name)
    }


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_importing_imports_neither_pyspark_nor_numpy():
    result = run_python(
        "import sys, ferroshuffle, ferroshuffle.shuffle\n"
        "print([m for m in ('pyspark', 'numpy', 'py4j') if m in sys.modules])"
    )
    assert result.stdout == "[]\n", result.stderr


def test_importing_patches_nothing():
    result = run_python(
        "import pyspark.shuffle\n"
        "before = dict(vars(pyspark.shuffle))\n"
        "import ferroshuffle, ferroshuffle.shuffle\n"
        "print(vars(pyspark.shuffle) == before, ferroshuffle.is_installed())"
    )
    assert result.stdout == "True False\n", result.stderr


@pytest.mark.parametrize("name", CLASSES + FUNCTIONS)
def test_install_binds_our_object_in_pyspark_shuffle(installed, name):
    assert getattr(pyspark.shuffle, name) is getattr(ferroshuffle.shuffle, name)


@pytest.mark.parametrize("name", IMPORTED_BY_RDD)
def test_install_binds_our_object_where_rdds_look_it_up(installed, name):
    assert getattr(RDD_MODULE, name) is getattr(ferroshuffle.shuffle, name)


def test_install_keeps_the_modules_themselves_and_their_counters(monkeypatch):
    monkeypatch.setattr(pyspark.shuffle, "DiskBytesSpilled", 7)
    modules = {name: sys.modules[name] for name in ("pyspark.shuffle", "pyspark.rdd")}
    ferroshuffle.install()
    assert {name: sys.modules[name] for name in modules} == modules
    assert pyspark.shuffle.DiskBytesSpilled == 7
    assert type(pyspark.shuffle.MemoryBytesSpilled) is int


def test_uninstall_restores_exactly_what_was_there():
    before = pyspark_globals()
    ferroshuffle.install()
    assert differences(before) >= {
        ("pyspark.shuffle", "ExternalMerger"),
        ("pyspark.rdd", "Aggregator"),
        ("RDD", "partitionBy"),
    }
    ferroshuffle.uninstall()
    assert not differences(before)


def test_installing_twice_is_one_install():
    before = pyspark_globals()
    ferroshuffle.install()
    after_first = pyspark_globals()
    ferroshuffle.install()
    assert not differences(after_first)
    ferroshuffle.uninstall()
    assert not differences(before)


def test_uninstalling_without_install_does_nothing():
    before = pyspark_globals()
    ferroshuffle.uninstall()
    ferroshuffle.uninstall()
    assert not differences(before)


def test_is_installed_says_so():
    assert not ferroshuffle.is_installed()
    ferroshuffle.install()
    assert ferroshuffle.is_installed()
    ferroshuffle.uninstall()
    assert not ferroshuffle.is_installed()


def test_installing_from_many_threads_at_once_is_one_install():
    before = pyspark_globals()
    threads = [threading.Thread(target=ferroshuffle.install) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ferroshuffle.uninstall()
    assert not differences(before)


def test_uninstall_leaves_what_someone_else_put_there_since():
    class Other:
        pass

    ferroshuffle.install()
    ours = pyspark.shuffle.SimpleAggregator
    pyspark.shuffle.SimpleAggregator = Other
    ferroshuffle.uninstall()
    try:
        assert pyspark.shuffle.SimpleAggregator is Other
    finally:
        ferroshuffle.install()
        pyspark.shuffle.SimpleAggregator = ours
        ferroshuffle.uninstall()


def test_uninstall_leaves_a_partition_by_of_someone_else(monkeypatch):
    def other(self: RDD, *arguments: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(RDD, "partitionBy", RDD.partitionBy)  # put back after the test
    ferroshuffle.install()
    RDD.partitionBy = other
    ferroshuffle.uninstall()
    assert RDD.partitionBy is other


def test_partition_by_is_documented_and_called_as_in_stock():
    stock = inspect.signature(RDD.partitionBy), RDD.partitionBy.__doc__
    code = RDD.partitionBy.__defaults__
    ferroshuffle.install()
    assert (inspect.signature(RDD.partitionBy), RDD.partitionBy.__doc__) == stock
    assert RDD.partitionBy.__defaults__ == code


def test_spark_names_a_shuffle_after_the_user_s_line(installed, sc: SparkContext):
    pairs = sc.parallelize([(1, 2)], 1)
    line = sys._getframe().f_lineno
    shuffled = [pairs.partitionBy(2), pairs.groupByKey(2), pairs.reduceByKey(max, 2)]
    for name, rdd in zip(("partitionBy", "groupByKey", "reduceByKey"), shuffled, strict=True):
        assert f"{name} at {__file__}:{line + 1}" in rdd.toDebugString().decode()


def test_partitioning_once_more_alike_shuffles_nothing(installed, sc: SparkContext):
    once = sc.parallelize([(1, 2)], 1).partitionBy(3)
    assert once.partitionBy(3) is once
    assert once.partitionBy(2) is not once
    assert once.partitionBy(3, hash) is not once


def test_an_untried_pyspark_is_named_in_a_warning_and_works(monkeypatch):
    monkeypatch.setattr(pyspark, "__version__", "9.1.0")
    with pytest.warns(
        UserWarning, match=r"PySpark 9\.1\.0, only with 3\.5, 4\.0, .*4\.3"
    ) as caught:
        ferroshuffle.install()
    assert caught[0].filename == __file__
    assert ferroshuffle.is_installed()


@pytest.mark.parametrize("version", ["3.5.0", "3.5.9", "4.0.5", "4.1.4", "4.2.1", "4.3.0.dev1"])
def test_a_tried_pyspark_brings_no_warning(recwarn, version):
    versions.warn_if_untried(version, stacklevel=1)
    assert not recwarn.list


@pytest.mark.parametrize("version", ["3.4.4", "4.30.0", "5.0.0"])
def test_other_versions_bring_a_warning(version):
    with pytest.warns(UserWarning, match=version):
        versions.warn_if_untried(version, stacklevel=1)


def test_a_warning_made_an_error_leaves_pyspark_as_it_was(monkeypatch):
    before = pyspark_globals()
    with monkeypatch.context() as patch:
        patch.setattr(pyspark, "__version__", "9.1.0")
        with pytest.raises(UserWarning):
            ferroshuffle.install()
    assert not ferroshuffle.is_installed()
    assert not differences(before)


def test_without_pyspark_install_names_the_remedy():
    result = run_python(
        "import sys; sys.modules['pyspark'] = None\nimport ferroshuffle\nferroshuffle.install()"
    )
    assert result.returncode == 1
    last_line = result.stderr.splitlines()[-1]
    assert last_line.startswith("ImportError: ")
    assert "pip install pyspark" in last_line
    assert "ferroshuffle[pyspark]" in last_line


def test_an_rdd_made_while_installed_works_after_uninstall(sc: SparkContext):
    ferroshuffle.install()
    pairs = sc.parallelize([(n % 5, n) for n in range(100)], 2)
    sums, groups = pairs.reduceByKey(operator.add), pairs.groupByKey().mapValues(sorted)
    ferroshuffle.uninstall()
    assert dict(sums.collect()) == {k: sum(range(k, 100, 5)) for k in range(5)}
    assert dict(groups.collect()) == {k: list(range(k, 100, 5)) for k in range(5)}


def test_an_rdd_made_on_stock_works_while_installed(sc: SparkContext):
    pairs = sc.parallelize([(n % 5, n) for n in range(100)], 2)
    sums, groups = pairs.reduceByKey(operator.add), pairs.groupByKey().mapValues(sorted)
    ferroshuffle.install()
    assert dict(sums.collect()) == {k: sum(range(k, 100, 5)) for k in range(5)}
    assert dict(groups.collect()) == {k: list(range(k, 100, 5)) for k in range(5)}


def test_rdds_of_both_kinds_meet_in_a_join(sc: SparkContext):
    pairs = sc.parallelize([(n % 5, n) for n in range(20)], 2)
    of_stock = pairs.reduceByKey(operator.add, 3)
    ferroshuffle.install()
    of_ours = pairs.reduceByKey(max, 3)
    joined = of_stock.join(of_ours, 3)
    expected = {k: (sum(range(k, 20, 5)), 15 + k) for k in range(5)}
    assert dict(joined.collect()) == expected
    assert joined.getNumPartitions() == 3
    ferroshuffle.uninstall()
    assert dict(of_stock.join(of_ours, 3).collect()) == expected
