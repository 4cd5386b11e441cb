"""
Switch PySpark in this process to ferroshuffle, and back.

PySpark finds its shuffle classes as globals of a few of its modules. We put ours in their place,
and leave the modules themselves where they are: a module of ours under the name
``pyspark.shuffle`` would hide the spill counters that PySpark's worker reads there. The other
things that we replace are ``RDD.partitionBy``, which all key-value operations shuffle with, the
sorts, ``mapValues``, the functions behind joins and ``cogroup``, and what the functions of ``map``
and its like are called through; and a few methods do what they did, and note for
`ferroshuffle.explain` what their result comes from.

The functions that PySpark ships to its workers travel by value and our classes by reference, so a
worker imports ferroshuffle by itself and nothing is patched there.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from ferroshuffle import __version__
from ferroshuffle._core import StopIterationGuard
from ferroshuffle.spark.joins import cogroup, join
from ferroshuffle.spark.lineage import noting
from ferroshuffle.spark.rdd import Shuffles, partition_by
from ferroshuffle.spark.sorts import repartition_and_sort, sort_by_key
from ferroshuffle.spark.values import map_values
from ferroshuffle.spark.versions import warn_if_untried

# Not the spill counters: PySpark's worker and users assign those where they are.
_REPLACED = (
    "Aggregator",
    "SimpleAggregator",
    "Merger",
    "ExternalMerger",
    "ExternalSorter",
    "ExternalList",
    "ExternalListOfList",
    "GroupByKey",
    "ExternalGroupBy",
    "get_used_memory",
    "_get_local_dirs",
    "_compressed_serializer",
)

# Of each join, which sides it keeps values of that the other one has no key for.
_KEEPS = {
    "python_join": (False, False),
    "python_left_outer_join": (True, False),
    "python_right_outer_join": (False, True),
    "python_full_outer_join": (True, True),
}

# From `install` over `ferroshuffle.install` to the user's line.
_STACKLEVEL = 3

_lock = threading.Lock()
_undo: Callable[[], None] | None = None


def install() -> None:
    """Put our classes in PySpark's place; see `ferroshuffle.install`."""
    global _undo
    with _lock:
        if _undo is not None:
            return
        pyspark = _import_pyspark()
        warn_if_untried(pyspark.__version__, _STACKLEVEL)
        theirs = vars(pyspark.shuffle)
        stock = {name: theirs[name] for name in _REPLACED if name in theirs}
        shuffle = importlib.import_module("ferroshuffle.shuffle")
        ours = {name: getattr(shuffle, name) for name in stock}
        shuffles = Shuffles(pyspark.RDD.partitionBy)
        for name, theirs_now, ours_now in _joins(pyspark, shuffles):
            stock[name], ours[name] = theirs_now, ours_now
        pickler = pyspark.cloudpickle.CloudPickler
        reducer = pickler.reducer_override
        methods = list(_methods(pyspark, shuffles))

        def undo() -> None:
            _rebind(ours, stock)
            pickler.reducer_override = reducer
            for owner, name, theirs, ours_now in methods:
                if getattr(owner, name) is ours_now:
                    setattr(owner, name, theirs)

        _undo = undo
        _rebind(stock, ours)
        pickler.reducer_override = _with_remedy(reducer)
        for owner, name, _, ours_now in methods:
            setattr(owner, name, ours_now)


def _joins(pyspark: Any, shuffles: Shuffles) -> Iterator[tuple[str, Any, Any]]:
    """Yield the functions behind joins and `cogroup`: their names, stock's and ours."""
    for name, keeps in _KEEPS.items():
        stock = getattr(pyspark.join, name)
        yield name, stock, join(stock, shuffles, keeps)
    stock = pyspark.join.python_cogroup
    yield "python_cogroup", stock, cogroup(stock, shuffles)


def _methods(pyspark: Any, shuffles: Shuffles) -> Iterator[tuple[Any, str, Any, Any]]:
    """Yield what else we replace: whose it is, its name, stock's and ours."""
    for name, ours in (
        ("partitionBy", partition_by),
        ("sortByKey", sort_by_key),
        ("repartitionAndSortWithinPartitions", repartition_and_sort),
    ):
        theirs = getattr(pyspark.RDD, name)
        yield pyspark.RDD, name, theirs, ours(theirs, shuffles)
    theirs = pyspark.RDD.mapValues
    yield pyspark.RDD, "mapValues", theirs, map_values(theirs)
    # What the functions of `map`, `filter` and their like are called through, once a record.
    module = sys.modules[pyspark.RDD.__module__]
    yield module, "fail_on_stopiteration", module.fail_on_stopiteration, StopIterationGuard
    # What makes an RDD in the JVM, and so leaves `explain` nothing to follow.
    for owner, names in (
        (pyspark.RDD, ("union", "cartesian", "zip", "coalesce")),
        (pyspark.SparkContext, ("union",)),
    ):
        for name in names:
            theirs = getattr(owner, name)
            yield owner, name, theirs, noting(theirs)


def uninstall() -> None:
    """Take our classes out again; see `ferroshuffle.uninstall`."""
    global _undo
    with _lock:
        if _undo is None:
            return
        _undo()
        _undo = None


def is_installed() -> bool:
    """See `ferroshuffle.is_installed`."""
    return _undo is not None


def _import_pyspark() -> Any:
    try:
        pyspark = importlib.import_module("pyspark")
        # PySpark 4 keeps RDDs in `pyspark.core.rdd` and answers to this older name as well.
        for module in ("pyspark.shuffle", "pyspark.cloudpickle", "pyspark.rdd", "pyspark.join"):
            importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"ferroshuffle.install() needs PySpark with RDDs on the driver ({error}): "
            "pip install pyspark, or pip install 'ferroshuffle[pyspark]'",
            name=error.name,
        ) from error
    return pyspark


def _rebind(old: Mapping[str, object], new: Mapping[str, object]) -> None:
    """Rebind each name to the new object in all PySpark modules that bind it to the old one."""
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] != "pyspark" or not isinstance(module, ModuleType):
            continue
        for name, value in old.items():
            if vars(module).get(name) is value:
                setattr(module, name, new[name])


def _with_remedy(reducer: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """
    Extend a cloudpickle reducer so that a worker without ferroshuffle says what to do.

    A plain reference to one of our classes would fail there with nothing but pickle's
    ``No module named 'ferroshuffle'``. Ours is looked up by a function that travels along.
    """
    look_up = _remedy_function()

    def reducer_override(pickler: Any, obj: Any) -> Any:
        if isinstance(obj, (type, FunctionType, BuiltinFunctionType)) and _is_ours(obj):
            return look_up, (obj.__module__, obj.__qualname__)
        return reducer(pickler, obj)

    return reducer_override


def _is_ours(obj: type | FunctionType | BuiltinFunctionType) -> bool:
    """Tell whether this is a global of one of our modules, which a worker can look up there."""
    module_name = getattr(obj, "__module__", None)
    if not isinstance(module_name, str) or module_name.partition(".")[0] != "ferroshuffle":
        return False
    return getattr(sys.modules.get(module_name), obj.__qualname__, None) is obj


def _remedy_function() -> Callable[[str, str], Any]:
    version = __version__

    # Nested functions, since cloudpickle sends those by value.
    def of_pyspark(name: str) -> Any:
        """Return what does the same, of what jobs without a shuffle hold."""
        from pyspark.util import fail_on_stopiteration

        def value_map(function: Callable[[Any], Any]) -> Callable[[Any], Iterator[Any]]:
            mapped = fail_on_stopiteration(lambda record: (record[0], function(record[1])))
            return lambda records: map(mapped, records)

        return {"StopIterationGuard": fail_on_stopiteration, "value_map": value_map}.get(name)

    def look_up(module_name: str, name: str) -> Any:
        import importlib
        import socket
        import sys

        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            if theirs := of_pyspark(name):
                return theirs
            raise ImportError(
                f"this Spark worker ({sys.executable} on {socket.gethostname()}) cannot import "
                f"ferroshuffle, which the driver has switched on with ferroshuffle.install(): "
                f"{error}. Run `pip install ferroshuffle=={version}` for the workers' Python on "
                "every node, or set PYSPARK_PYTHON (spark.pyspark.python) to a Python that has it",
                name="ferroshuffle",
            ) from error
        return getattr(module, name)

    return look_up
