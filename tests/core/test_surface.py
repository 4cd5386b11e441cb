"""Every public name is there, with stock's signature, and can be subclassed and subscripted."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest
from pyspark import cloudpickle
from pyspark import shuffle as stock

import ferroshuffle
from ferroshuffle import shuffle
from tests.conftest import NO_LIMIT_MIB

K = TypeVar("K")
V = TypeVar("V")
C = TypeVar("C")

METHODS = {
    "Aggregator": [],
    "SimpleAggregator": [],
    "Merger": ["mergeValues", "mergeCombiners", "items"],
    "ExternalMerger": [
        "mergeValues",
        "mergeCombiners",
        "items",
        "_spill",
        "_cleanup",
        "_external_items",
        "_recursive_merged_items",
    ],
    "ExternalGroupBy": ["mergeValues", "mergeCombiners", "items", "_spill", "_cleanup"],
    "ExternalSorter": ["sorted", "_next_limit"],
    "ExternalList": ["append", "__len__", "__iter__"],
    "ExternalListOfList": ["append", "__len__", "__iter__"],
    "GroupByKey": ["__iter__"],
}


def shape(thing: Any) -> list[tuple[str, Any, Any]]:
    """Return names, kinds and defaults of the parameters: annotations differ by version."""
    parameters = inspect.signature(thing).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_class_is_called_as_in_stock(name: str) -> None:
    assert shape(getattr(shuffle, name)) == shape(getattr(stock, name))


@pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name in sorted(METHODS) for method in METHODS[name]]
)
def test_a_method_is_called_as_in_stock(name: str, method: str) -> None:
    left, right = getattr(getattr(shuffle, name), method), getattr(getattr(stock, name), method)
    assert shape(left) == shape(right)


@pytest.mark.parametrize("name", ["get_used_memory", "_get_local_dirs"])
def test_a_function_is_called_as_in_stock(name: str) -> None:
    assert shape(getattr(shuffle, name)) == shape(getattr(stock, name))


@pytest.mark.parametrize("name", [*METHODS, "InMemoryMerger", "get_used_memory"])
def test_public_names_are_documented_and_say_where_they_live(name: str) -> None:
    thing = getattr(shuffle, name)
    assert inspect.getdoc(thing)
    assert thing.__module__.partition(".")[0] == "ferroshuffle"
    assert thing.__name__ == name


def test_the_package_has_its_own_names() -> None:
    for name in ("install", "uninstall", "is_installed"):
        assert callable(getattr(ferroshuffle, name))
    assert isinstance(ferroshuffle.__version__, str)
    assert issubclass(ferroshuffle.CorruptBlockError, OSError)


def test_class_constants_are_stock_s() -> None:
    assert shuffle.ExternalMerger.MAX_TOTAL_PARTITIONS == stock.ExternalMerger.MAX_TOTAL_PARTITIONS
    assert shuffle.ExternalGroupBy.SORT_KEY_LIMIT == stock.ExternalGroupBy.SORT_KEY_LIMIT
    assert shuffle.ExternalList.LIMIT == stock.ExternalList.LIMIT


def test_the_classes_inherit_as_in_stock() -> None:
    for name in METHODS:
        for base in METHODS:
            expected = issubclass(getattr(stock, name), getattr(stock, base))
            assert issubclass(getattr(shuffle, name), getattr(shuffle, base)) == expected
    assert issubclass(shuffle.InMemoryMerger, shuffle.Merger)
    for name in ("ExternalList", "ExternalListOfList", "GroupByKey"):
        assert issubclass(getattr(shuffle, name), Iterable)


def aggregator() -> shuffle.Aggregator[Any, Any]:
    return shuffle.Aggregator(lambda v: [v], lambda c, v: [*c, v], lambda a, b: a + b)


SUBSCRIPTED: dict[str, Callable[[], Any]] = {
    "Aggregator": lambda: shuffle.Aggregator[int, int](abs, max, max),
    "Merger": lambda: shuffle.Merger[int, int, int](aggregator()),
    "InMemoryMerger": lambda: shuffle.InMemoryMerger[int, int, int](aggregator()),
    "ExternalMerger": lambda: shuffle.ExternalMerger[int, int, int](aggregator(), 10),
    "ExternalGroupBy": lambda: shuffle.ExternalGroupBy[int, int](aggregator(), 10),
    "ExternalSorter": lambda: shuffle.ExternalSorter[int](10),
    "ExternalList": lambda: shuffle.ExternalList[int]([]),
    "ExternalListOfList": lambda: shuffle.ExternalListOfList[int]([[1]]),
    "GroupByKey": lambda: shuffle.GroupByKey[int, int]([]),
}


@pytest.mark.parametrize("name", sorted(SUBSCRIPTED))
def test_a_class_can_be_subscripted_and_then_called(name: str) -> None:
    assert type(SUBSCRIPTED[name]()) is getattr(shuffle, name)


@pytest.mark.parametrize("name", sorted(SUBSCRIPTED))
def test_a_class_can_be_subclassed_with_state_of_its_own(name: str) -> None:
    base = getattr(shuffle, name)
    arguments: dict[str, tuple[Any, ...]] = {
        "Aggregator": (abs, max, max),
        "ExternalSorter": (10,),
        "ExternalList": ([],),
        "ExternalListOfList": ([[1]],),
        "GroupByKey": ([],),
    }

    class Own(base):  # type: ignore[misc, valid-type]
        def __init__(self, tag: str, *rest: Any) -> None:
            base.__init__(self, *rest)
            self.tag = tag

    thing = Own("mine", *arguments.get(name, (aggregator(),)))
    assert thing.tag == "mine"
    assert isinstance(thing, base)


def test_a_subscripted_class_can_be_a_base() -> None:
    class Own(shuffle.ExternalMerger[K, V, C]):
        pass

    merger = Own(aggregator(), NO_LIMIT_MIB)
    merger.mergeValues([("a", 1), ("a", 2)])
    assert list(merger.items()) == [("a", [1, 2])]


def test_a_merger_has_stock_s_attributes() -> None:
    agg = aggregator()
    merger = shuffle.ExternalMerger(agg, 10.5, None, ["/x", "/y"], 3, 7, 100)
    assert merger.agg is agg
    assert (merger.memory_limit, merger.localdirs) == (10.5, ["/x", "/y"])
    assert (merger.scale, merger.partitions, merger.batch, merger.spills) == (3, 7, 100, 0)
    assert type(merger.spills) is int


def test_a_merger_s_defaults_are_stock_s() -> None:
    left = shuffle.ExternalMerger(aggregator())
    right = stock.ExternalMerger(stock.Aggregator(abs, max, max))
    for name in ("memory_limit", "scale", "partitions", "batch", "spills"):
        assert getattr(left, name) == getattr(right, name)


def test_a_merger_takes_its_arguments_by_name() -> None:
    merger = shuffle.ExternalMerger(
        aggregator=aggregator(),
        memory_limit=9.0,
        serializer=None,
        localdirs=None,
        scale=1,
        partitions=4,
        batch=5,
    )
    assert (merger.memory_limit, merger.partitions, merger.batch) == (9.0, 4, 5)


def test_a_merger_s_limit_can_be_changed_later() -> None:
    merger = shuffle.ExternalMerger(aggregator(), NO_LIMIT_MIB)
    merger.mergeValues([(n, n) for n in range(100)])
    assert merger.spills == 0
    merger.memory_limit = 1
    merger.mergeValues([(n, n) for n in range(100)])
    assert merger.spills == 1
    assert sorted(merger.items()) == [(n, [n, n]) for n in range(100)]


def test_attributes_nobody_knows_can_be_set_as_on_any_object() -> None:
    merger, sorter = shuffle.ExternalMerger(aggregator(), 10), shuffle.ExternalSorter(10)
    merger.note = sorter.note = "mine"  # type: ignore[attr-defined]
    assert merger.note == sorter.note == "mine"  # type: ignore[attr-defined]


def test_a_sorter_has_stock_s_attributes() -> None:
    sorter = shuffle.ExternalSorter(memory_limit=7.5, serializer=None)
    assert sorter.memory_limit == 7.5
    assert [path.rpartition("/")[2] for path in sorter.local_dirs] == ["sort", "sort"]
    assert sorter._next_limit() >= 7.5


@pytest.mark.parametrize(
    "functions", [(), (abs,), (abs, max), (abs, max, max, max)], ids=lambda f: str(len(f))
)
def test_an_aggregator_wants_three_functions(functions: Any) -> None:
    with pytest.raises(TypeError):
        shuffle.Aggregator(*functions)


@pytest.mark.parametrize("arguments", [(), (1, 2, 3, 4, 5, 6, 7, 8)], ids=["none", "eight"])
def test_a_merger_called_wrongly_is_a_type_error(arguments: Any) -> None:
    with pytest.raises(TypeError):
        shuffle.ExternalMerger(*arguments)


def test_a_simple_aggregator_keeps_the_first_value_and_combines_the_rest() -> None:
    agg: Any = shuffle.SimpleAggregator(lambda a, b: a + b)
    assert agg.createCombiner("x") == "x"
    assert agg.mergeValue("x", "y") == "xy"
    assert agg.mergeCombiners("x", "y") == "xy"


def test_an_aggregator_with_lambdas_travels_by_cloudpickle() -> None:
    extra = 10
    agg = shuffle.Aggregator(lambda v: [v + extra], lambda c, v: [*c, v], lambda a, b: a + b)
    copy: Any = pickle.loads(cloudpickle.dumps(agg))
    assert type(copy) is shuffle.Aggregator
    merger = shuffle.ExternalMerger(copy, NO_LIMIT_MIB)
    merger.mergeValues([("a", 1), ("a", 2)])
    merger.mergeCombiners([("a", [3])])
    assert list(merger.items()) == [("a", [11, 2, 3])]


def test_a_simple_aggregator_travels_by_cloudpickle() -> None:
    copy: Any = pickle.loads(cloudpickle.dumps(shuffle.SimpleAggregator(lambda a, b: a * b)))
    assert isinstance(copy, shuffle.SimpleAggregator)
    merger = shuffle.ExternalMerger(copy, NO_LIMIT_MIB)
    merger.mergeValues([("a", 2), ("a", 3)])
    assert list(merger.items()) == [("a", 6)]


def test_a_subclass_of_the_aggregator_may_define_the_functions_itself() -> None:
    class Joined(shuffle.Aggregator):
        def __init__(self) -> None:
            shuffle.Aggregator.__init__(self, str, self.join, self.join)

        def join(self, left: str, right: Any) -> str:
            return f"{left}{right}"

    merger = shuffle.ExternalMerger(Joined(), NO_LIMIT_MIB)
    merger.mergeValues([("a", 1), ("a", 2)])
    merger.mergeCombiners([("a", "3")])
    assert list(merger.items()) == [("a", "123")]


def test_any_object_with_the_three_functions_is_an_aggregator() -> None:
    class Plain:
        createCombiner = staticmethod(lambda v: v)
        mergeValue = staticmethod(max)
        mergeCombiners = staticmethod(min)

    for module in (shuffle, stock):
        merger = module.ExternalMerger(Plain(), NO_LIMIT_MIB)
        merger.mergeValues([("a", 1), ("a", 3), ("a", 2)])
        merger.mergeCombiners([("a", 2)])
        assert list(merger.items()) == [("a", 2)]


def test_a_merger_without_its_methods_says_so() -> None:
    class Nothing(shuffle.Merger):
        def __init__(self, agg: Any) -> None:
            shuffle.Merger.__init__(self, agg)

    merger = Nothing(aggregator())
    for call in (
        lambda: merger.mergeValues([]),
        lambda: merger.mergeCombiners([]),
        merger.items,
        merger.iteritems,
    ):
        with pytest.raises(NotImplementedError):
            call()


def test_used_memory_is_the_resident_set_in_whole_mib() -> None:
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    used = shuffle.get_used_memory()
    assert type(used) is int
    assert abs(used - (pages * 4096 >> 20)) <= 2
    ballast = bytearray(b"x" * (40 << 20))
    assert shuffle.get_used_memory() >= used + 30
    del ballast


@pytest.mark.parametrize(
    ("text", "mib"), [("256m", 256), ("2g", 2048), ("1t", 1 << 20), ("2048k", 2), ("0.5g", 512)]
)
def test_memory_is_parsed_to_mib(text: str, mib: int) -> None:
    assert shuffle._parse_memory(text) == mib


@pytest.mark.parametrize("text", ["12", "12x", "m", "twog"])
def test_memory_nobody_understands_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        shuffle._parse_memory(text)


def test_the_compressed_serializer_writes_what_it_reads(tmp_path: Any) -> None:
    items = [(n, str(n)) for n in range(1_000)]
    with open(tmp_path / "stream", "w+b") as stream:
        shuffle._compressed_serializer().dump_stream(iter(items), stream)
        stream.seek(0)
        assert list(shuffle._compressed_serializer(None).load_stream(stream)) == items


def test_one_string_in_place_of_the_list_of_dirs_is_refused() -> None:
    # Stock takes its letters for directories, and removes them when it is done.
    merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(max), 1, localdirs="/tmp")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        merger.mergeValues([(1, 1)])
