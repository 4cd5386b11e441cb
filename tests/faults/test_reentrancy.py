"""User code that calls back into the merger that is calling it: a clear error, never a crash."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ferroshuffle import shuffle
from tests.conftest import NO_LIMIT_MIB

CALLS: dict[str, Callable[[Any], Any]] = {
    "mergeValues": lambda merger: merger.mergeValues([("x", 1)]),
    "mergeCombiners": lambda merger: merger.mergeCombiners([("x", [1])]),
    "items": lambda merger: list(merger.items()),
    "spill": lambda merger: merger._spill(),
    "cleanup": lambda merger: merger._cleanup(),
}


class Caller:
    """Calls the merger back from whatever operation is asked for, and remembers the error."""

    def __init__(self, call: Callable[[Any], Any], swallow: bool) -> None:
        self.call, self.swallow = call, swallow
        self.merger: Any = None
        self.errors: list[BaseException] = []

    def back(self) -> None:
        if self.merger is None:
            return
        try:
            self.call(self.merger)
        except RuntimeError as error:
            self.errors.append(error)
            if not self.swallow:
                raise

    def done(self) -> None:
        self.merger = None
        for error in self.errors:
            error.__traceback__ = None


class CallingKey:
    caller: Caller

    def __init__(self, number: int, stage: str) -> None:
        self.number, self.stage = number, stage

    def __hash__(self) -> int:
        if self.stage == "hash":
            self.caller.back()
        return 1

    def __eq__(self, other: Any) -> bool:
        if self.stage == "eq":
            self.caller.back()
        return self.number == other.number

    def __reduce__(self) -> Any:
        if self.stage == "reduce":
            self.caller.back()
        return CallingKey, (self.number, self.stage)


def aggregator(caller: Caller, stage: str) -> shuffle.Aggregator[Any, Any]:
    def at(name: str) -> None:
        if name == stage:
            caller.back()

    def create(value: Any) -> list[Any]:
        at("create")
        return [value]

    def merge_value(combiner: list[Any], value: Any) -> list[Any]:
        at("value")
        return [*combiner, value]

    def merge_combiners(left: list[Any], right: list[Any]) -> list[Any]:
        at("combiners")
        return left + right

    return shuffle.Aggregator(create, merge_value, merge_combiners)


STAGES = ["create", "value", "combiners", "hash", "eq", "reduce", "input"]


@pytest.mark.parametrize("kind", [shuffle.ExternalMerger, shuffle.ExternalGroupBy])
@pytest.mark.parametrize("name", sorted(CALLS))
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("swallow", [False, True])
def test_calling_back_is_a_runtime_error_and_the_merger_stays_usable(
    kind: Any, name: str, stage: str, swallow: bool
) -> None:
    caller = Caller(CALLS[name], swallow)
    CallingKey.caller = caller
    merger = kind(aggregator(caller, stage), NO_LIMIT_MIB, partitions=2)
    caller.merger = merger

    def key(number: int) -> Any:
        return CallingKey(number, stage) if stage in ("hash", "eq", "reduce") else number

    def source(records: list[Any]) -> Iterator[Any]:
        if stage == "input":
            caller.back()
        yield from records

    def work() -> None:
        merger.mergeValues(source([(key(1), "a"), (key(1), "b"), (key(2), "c")]))
        merger.mergeCombiners(source([(key(1), ["d"])]))
        merger._spill()

    if swallow:
        work()
    else:
        with pytest.raises(RuntimeError):
            work()
    assert caller.errors
    assert all(len(str(error)) > 15 for error in caller.errors), "an error that says nothing"
    caller.done()
    merger.mergeValues([(key(3), "later")])
    result = {getattr(k, "number", k): list(group) for k, group in merger.items()}
    assert result[3] == ["later"]
    if swallow:
        assert result == {1: ["a", "b", "d"], 2: ["c"], 3: ["later"]}
    del CallingKey.caller


@pytest.mark.parametrize("name", sorted(CALLS))
def test_calling_back_while_runs_are_read(name: str) -> None:
    caller = Caller(CALLS[name], swallow=True)
    merger = shuffle.ExternalMerger(aggregator(caller, "combiners"), NO_LIMIT_MIB, partitions=2)
    for value in "ab":
        merger.mergeValues((n, value) for n in range(10))
        merger._spill()
    caller.merger = merger
    result = sorted(merger.items())
    assert result == [(n, ["a", "b"]) for n in range(10)]
    caller.done()


def test_reading_items_from_within_reading_items() -> None:
    reading: Any = None
    errors = []

    def merge(left: Any, right: Any) -> Any:
        try:
            next(reading)
        except (RuntimeError, ValueError) as error:
            errors.append(str(error))
        return left + right

    merger = shuffle.ExternalMerger(shuffle.SimpleAggregator(merge), NO_LIMIT_MIB, partitions=1)
    for value in (1, 2):
        merger.mergeValues((n, value) for n in range(5))
        merger._spill()
    reading = merger.items()
    assert sorted(reading) == [(n, 3) for n in range(5)]
    assert errors
    assert all(errors)


def test_a_value_whose_end_calls_back_does_no_harm() -> None:
    merger: Any = None
    errors = []

    class Last:
        def __del__(self) -> None:
            try:
                merger.mergeValues([("from del", 1)])
            except RuntimeError as error:
                errors.append(str(error))

    merger = shuffle.ExternalMerger(
        shuffle.Aggregator(lambda v: v, lambda c, v: v, lambda a, b: b), NO_LIMIT_MIB
    )
    for _ in range(3):
        merger.mergeValues([("a", Last()), ("a", Last()), ("b", Last()), ("a", 1), ("b", 1)])
    result = dict(merger.items())
    assert {key: result[key] for key in "ab"} == {"a": 1, "b": 1}


def test_two_threads_on_one_merger_get_an_error_or_take_turns() -> None:
    import threading

    merger = shuffle.ExternalMerger(
        shuffle.Aggregator(lambda v: v, lambda c, v: c + v, lambda a, b: a + b), NO_LIMIT_MIB
    )
    inside, release = threading.Event(), threading.Event()

    def slow() -> Iterator[Any]:
        yield "a", 1
        inside.set()
        release.wait(30)
        yield "a", 1

    first = threading.Thread(target=lambda: merger.mergeValues(slow()))
    first.start()
    assert inside.wait(30)
    with pytest.raises(RuntimeError):
        merger.mergeValues([("a", 10)])
    release.set()
    first.join(30)
    merger.mergeValues([("a", 100)])
    assert list(merger.items()) == [("a", 102)]


def test_a_sorter_s_key_function_may_sort_with_the_same_sorter() -> None:
    sorter = shuffle.ExternalSorter(0)

    def key(number: int) -> int:
        return next(iter(sorter.sorted([-number, 1_000])))

    assert list(sorter.sorted(range(300), key=key)) == list(range(299, -1, -1))
