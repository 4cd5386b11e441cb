"""Reading functions: what is read is what the function does, or it is refused with the reason."""

from __future__ import annotations

import copy
import dis
import functools
import math
import operator
import types
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark import cloudpickle

from ferroshuffle import bytecode, shuffle
from ferroshuffle import expression as e
from ferroshuffle.bytecode import NotRecognized, read
from tests.compat.exact import exact
from tests.core.evaluate import defined, run
from tests.core.shuffles import CALLS, from_zero, functions_of

A, B = e.Argument(0), e.Argument(1)


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call gives and leaves in its arguments, or the type of what it raises."""
    arguments = copy.deepcopy(arguments)
    try:
        return exact(function(*arguments)), exact(arguments)
    except Exception as error:
        return type(error)


# What follows draws the text of small functions of `a` and `b`, and values to call them with.
LEAVES = st.sampled_from(
    ["a", "b", "a[0]", "b[0]", "a[1]", "b[1]", "1", "2.5", "True", "'x'", "None"]
)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*&|^"), inner),
        st.builds(
            "({} {} {})".format,
            inner,
            st.sampled_from(["<", "<=", "==", "!=", ">", "is", "is not", "in", "not in"]),
            inner,
        ),
        st.builds("({} < {} < {})".format, inner, inner, inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("({}, {})".format, inner, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("(-{})".format, inner),
        st.builds("(not {})".format, inner),
        st.builds("{}({}, {})".format, st.sampled_from(["max", "min", "add"]), inner, inner),
        st.builds("{}({})".format, st.sampled_from(["len", "abs"]), inner),
    )


texts = st.recursive(LEAVES, _larger, max_leaves=8)
STATEMENTS = st.sampled_from(
    [
        "x, y = {}",
        "x = {}",
        "a = {}",
        "b += {}",
        "a, b = b, {}",
        "if {}: return a",
        "if {}: b = a",
        "if {} is None: return b",
        "a.append({})",
        "a.update({})",
        "a.add({}) or 1",
        "{}",
        "pass",
    ]
)
bodies = st.lists(st.builds(str.format, STATEMENTS, texts), max_size=3)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**62, -(2**63), 10**20, 0.5, -0.0, math.inf, "", "x", "yx", b"z"]),
)
values = st.one_of(
    scalars,
    st.tuples(scalars, scalars),
    st.tuples(scalars, scalars, scalars),
    st.lists(scalars, max_size=3),
    st.sets(scalars, max_size=2),
)


@given(texts, st.lists(st.tuples(values, values), min_size=1, max_size=8))
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_an_expression_is_read_as_it_is(text: str, calls: list[tuple[Any, Any]]) -> None:
    function = defined("a, b", [f"return {text}"])
    reading = read(function, 2)  # nothing of an expression's grammar is refused
    for arguments in calls:
        assert _agree(reading, function, arguments)


def _agree(reading: e.Reading, function: Callable[..., Any], arguments: tuple[Any, ...]) -> bool:
    real = outcome(function, *arguments)
    ours = outcome(functools.partial(run, reading), *arguments)
    # Of two parts that fail, either may come first.
    return ours == real or (isinstance(ours, type) and isinstance(real, type))


@given(bodies, texts, st.lists(st.tuples(values, values), min_size=1, max_size=8))
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_what_is_read_of_statements_is_what_they_do(
    body: list[str], text: str, calls: list[tuple[Any, Any]]
) -> None:
    function = defined("a, b", [*body, f"return {text}"])
    try:
        reading = read(function, 2)
    except NotRecognized:
        return
    if _changes_within(reading.result):
        return  # what `+=` changes, others may look at: see Operation
    for arguments in calls:
        assert _agree(reading, function, arguments)


def _changes_within(result: e.Expression) -> bool:
    return any(
        isinstance(each, e.Operation) and each.operator == "+="
        for each in e.all_parts(*result.parts())
    )


ZERO = (0, 0)


def _append(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def _average(combiner: tuple[int, int], value: int) -> tuple[int, int]:
    total, count = combiner
    total += value
    return total, count + 1


def _with_defaults(a: int, b: int, *, factor: int = 3, smaller: Callable[..., int] = min) -> int:
    return smaller(a, b) * factor


SUM = e.Operation("+", (A, B))


def _of(*texts: str) -> e.Reading:
    """Return the reading of a lambda of the text, whose own is tested above."""
    function = eval(f"lambda a, b: {texts[0]}")
    return read(function, 2)


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (operator.add, SUM),
        (lambda a, b: operator.add(a, b), SUM),
        (functools.partial(lambda a, b, c: b + c, 1), SUM),
        (functools.partial(lambda a, b, c=0: a + b + c, c=4), _of("a + b + 4").result),
        (shuffle.Aggregator(abs, operator.add, max).mergeValue, SUM),
        (max, e.Call("max", (A, B))),
        (lambda a, _: a, A),
        (lambda a, b: a or b, e.Conditional(A, A, B)),
        (lambda a, b: a if a[1] > b[1] else b, _of("a if a[1] > b[1] else b").result),
        (_with_defaults, _of("min(a, b) * 3").result),
        (_average, None),
    ],
)
def test_one_meaning_in_many_spellings(
    function: Callable[..., Any], result: e.Expression | None
) -> None:
    reading = read(function, 2)
    assert reading.changes == ()
    assert result is None or reading.result == result


@pytest.mark.parametrize("function", [_append, lambda a, b: a.append(b) or a])
def test_a_change_comes_before_the_result(function: Callable[..., Any]) -> None:
    assert read(function, 2) == e.Reading((e.Method(A, "append", (B,)),), A)


def test_a_known_bug_stays_one() -> None:
    reading = read(lambda a, b: a.extend(b), 2)
    assert reading.result == e.Constant(None)


@pytest.mark.parametrize("zero", [0, 0.0, (0, 0), "", [], {1}])
def test_zeros_of_aggregate_by_key_are_new_in_each_call(zero: Any) -> None:
    for function in (operator.add, lambda a, b: a + b, lambda a, b: a.append(b) or a):
        create = from_zero(zero, function)
        reading = read(create, 1)
        for value in (1, 2.5, (1, 2), [3], "x"):
            assert outcome(functools.partial(run, reading), value) == outcome(create, value)


LIMIT = 10


def _loop(a: Any, b: Any) -> Any:
    for key in b:
        a[key] += b[key]
    return a


def _guarded(a: Any, b: Any) -> Any:
    try:
        return a + b
    except TypeError:
        return a


def _forgetful(a: Any, b: Any) -> Any:
    a[5]
    return b


def _too_early(a: Any, b: Any) -> Any:
    count = len(a)
    a.append(b)
    return count


def _on_one_way(a: Any, b: Any) -> Any:
    if b:
        a.append(b)
    return a


def _generator(a: Any, b: Any) -> Any:
    yield a + b


def _any_number(*arguments: Any) -> Any:
    return arguments[0]


def _recursive(a: Any, b: Any) -> Any:
    return _recursive(b, a)


def _inner(a: Any, b: Any) -> Any:
    return (lambda: a)()


def _list_of_two(a: Any, b: Any) -> Any:
    both = [a, b]
    return list(both), both


def _set_of_two(a: Any, b: Any) -> Any:
    found = set((b, a))  # noqa: C405 (people write that)
    found.add(7)
    return found


def _empty(a: Any, b: Any) -> Any:
    return tuple([set(), list(), tuple(), a, b])  # noqa: C408, C409 (people write that)


@pytest.mark.parametrize("function", [_list_of_two, _set_of_two, _empty, set.union])
def test_containers_are_made_of_what_was_built_for_them(function: Callable[..., Any]) -> None:
    for arguments in [(1, 2), (1, 1), (7, "x"), ([], 1), ({1}, {2}), ({1}, [2])]:
        assert _agree(read(function, 2), function, arguments)


def _changed_before(a: Any, b: Any) -> Any:
    found = [a]
    found.append(b)
    return set(found)


def _changed_afterwards(a: Any, b: Any) -> Any:
    found = [a]
    before = set(found)
    found.append(b)
    return before, found


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (_changed_before, "calls `set` of something"),
        (_changed_afterwards, "does not show"),
        (lambda a, b: set(b), "calls `set` of something"),
        (lambda a, b: list("ab"), "calls `list` of something"),
        (lambda a, b: list({a, b}), "calls `list` of something"),
        (lambda a, b: tuple(set([a])), "calls `tuple` of something"),  # noqa: C405 (as above)
        (lambda a, b: frozenset([a]), "calls `frozenset`"),
        (_loop, "loops"),
        (_guarded, "exceptions|SETUP_FINALLY"),
        (_forgetful, "does not show"),
        (_too_early, "does not show"),
        (_on_one_way, "on one way"),
        (_generator, "generator"),
        (_any_number, "any number"),
        (_recursive, "too deep"),
        (_inner, "function of its own"),
        (lambda a, b: a + LIMIT, "global `LIMIT`"),
        (lambda a, b: {**a, **b}, "BUILD_MAP"),
        (lambda a, b: a.real + b, "attribute `real`"),
        (lambda a, b: a.merge(b), "method `merge`"),
        (lambda a, b: a[b], "no constant"),
        (lambda a, b: a / b, "not recognised"),
        (lambda a, b: a(b), "was given"),
        (lambda a, b: max(a), "one argument"),
        (lambda a, b: max(a, b, key=len), "not recognised"),
        (lambda a: a, "1 arguments and not 2"),
        (lambda a, b, c: a, "argument `c`"),
        (lambda a, b, c=[]: c, "default of `c`"),
        (print, "calls `print`"),
        (dict, "calls `dict`"),
        (math.hypot, "calls `hypot`"),
    ],
)
def test_what_is_refused_says_why(function: Callable[..., Any], reason: str) -> None:
    with pytest.raises(NotRecognized, match=reason):
        read(function, 2)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_what_pyspark_s_operations_shuffle_with_is_read(name: str) -> None:
    samples: list[Any] = [1, 2.5, 2**63, "x", None]
    create, merge_value, merge_combiners = functions_of(name)
    for value in samples:
        assert _agree(read(create, 1), create, (value,))
        combiner = outcome(create, value)
        if isinstance(combiner, type):
            continue
        for other in samples:
            assert _agree(read(merge_value, 2), merge_value, (create(value), other))
            assert _agree(read(merge_combiners, 2), merge_combiners, (create(value), create(value)))


def test_what_group_by_key_shuffles_with_is_read() -> None:
    create, merge_value, merge_combiners = functions_of("groupByKey")
    assert read(create, 1).result == e.Build("list", (A,))
    assert read(merge_value, 2) == e.Reading((e.Method(A, "append", (B,)),), A)
    assert read(merge_combiners, 2) == e.Reading((e.Method(A, "extend", (B,)),), A)


def _with_a_shared_variable() -> tuple[Callable[..., Any], Callable[[], None]]:
    factor = 2

    def change() -> None:
        nonlocal factor
        factor += 1

    return lambda a, b: a + b * factor, change


def test_a_variable_that_another_function_may_change_is_no_constant() -> None:
    function, change = _with_a_shared_variable()
    before = function(1, 2)
    change()
    assert function(1, 2) != before
    with pytest.raises(NotRecognized, match="variable `factor`"):
        read(function, 2)


def test_a_variable_of_a_function_that_still_runs_is_no_constant() -> None:
    factor = 2
    with pytest.raises(NotRecognized, match="variable `factor`"):
        read(lambda a, b: a + b * factor, 2)
    factor = 3


def test_a_variable_of_a_function_that_still_runs_is_a_constant_of_a_copy() -> None:
    factor = 2
    expected = _of("a + b * 2").result
    assert read(lambda a, b: a + b * factor, 2, is_sent=True).result == expected

    def within() -> e.Reading:
        return read(lambda a, b: a + b * factor, 2, is_sent=True)

    assert within().result == expected
    factor = 3


def test_a_parameter_of_a_function_that_still_runs_is_a_constant_where_nobody_sets_it() -> None:
    def times(factor: int) -> e.Reading:
        return read(lambda a, b: a + b * factor, 2)

    def twice(factor: int) -> e.Reading:
        function = lambda a, b: a + b * factor  # noqa: E731
        factor += factor
        return read(function, 2)

    assert times(3).result == _of("a + b * 3").result
    with pytest.raises(NotRecognized, match="variable `factor`"):
        twice(3)


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_variable_that_is_set_within_a_function_that_still_runs_is_no_constant(
    is_sent: bool,
) -> None:
    def times(factor: int) -> None:
        def change() -> Callable[[], None]:
            def change() -> None:
                nonlocal factor
                factor += 1

            return change

        with pytest.raises(NotRecognized, match="variable `factor`"):
            read(lambda a, b: a + b * factor, 2, is_sent=is_sent)
        change()

    times(3)


def test_a_variable_is_not_taken_for_another_of_its_name() -> None:
    def running(factor: int) -> None:
        function, _ = _with_a_shared_variable()
        assert factor == function(0, 1)
        with pytest.raises(NotRecognized, match="variable `factor`"):
            read(function, 2, is_sent=True)
        own = lambda a, b: a + b * factor  # noqa: E731
        assert read(own, 2).result == _of("a + b * 2").result

    running(2)


def test_functions_that_are_called_together_may_share_a_variable() -> None:
    def of(factor: int) -> list[Callable[..., Any]]:
        def change(a: Any, b: Any) -> Any:
            nonlocal factor
            factor += 1
            return a

        both = [lambda a, b: a + b * factor, lambda a, b: a - b * factor]
        return [*both, change] if factor < 0 else both

    one, other = of(3)
    assert read(one, 2, [other]).result == _of("a + b * 3").result
    assert read(one, 2, [shuffle.SimpleAggregator(other).mergeValue, one]) == read(one, 2, [other])
    with pytest.raises(NotRecognized, match="variable `factor`"):
        read(one, 2)
    one, other, change = of(-3)
    for beside in ([other], [other, change]):
        with pytest.raises(NotRecognized, match="variable `factor`"):
            read(one, 2, beside)


def test_a_variable_of_a_function_that_has_ended_is_a_constant() -> None:
    def times(factor: int) -> Callable[[int, int], int]:
        return lambda a, b: a + b * factor

    assert read(times(3), 2).result == _of("a + b * 3").result
    pickled = cloudpickle.loads(cloudpickle.dumps(times(4)))
    assert read(pickled, 2).result == _of("a + b * 4").result


def test_a_builtin_of_somebody_else_is_none() -> None:
    scope: dict[str, Any] = {"max": min}
    exec("def function(a, b): return max(a, b)", scope)
    assert read(scope["function"], 2).result == e.Call("min", (A, B))
    scope["max"] = lambda a, b: a + b
    assert read(scope["function"], 2).result == SUM


class _Backwards(functools.partial):  # type: ignore[type-arg]
    def __call__(self, *arguments: Any) -> Any:
        return super().__call__(*reversed(arguments))


def test_a_partial_that_calls_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotRecognized):
        read(_Backwards(operator.sub), 2)
    stands_for_another = object()  # as functools.Placeholder does, since 3.14
    monkeypatch.setattr(bytecode, "_PLACEHOLDER", stands_for_another)
    function = functools.partial(lambda x, y, z, w=0: y, stands_for_another, 5)
    with pytest.raises(NotRecognized, match="Placeholder"):
        read(function, 2)


NULLS = N = max


def _helper(x: Any, y: Any, f: Any) -> Any:
    return x


def _to_no_names(a: Any, b: Any) -> Any:
    () = a
    return b


def _with_own_change() -> Callable[..., Any]:
    n = 1

    def function(a: int, b: int, bump: bool = False) -> int:
        nonlocal n
        if bump:
            n += 10
        return a + n

    return function


class _Proxy:
    """Claims to be the function that it calls with its arguments the other way round."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    @property
    def __class__(self) -> type:
        return types.FunctionType

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)

    def __call__(self, a: Any, b: Any) -> Any:
        return self.function(b, a)


ZEROS: list[int] = []


@pytest.mark.parametrize(
    "function",
    [
        _to_no_names,
        _with_own_change(),
        _Proxy(lambda a, b: a - b),
        lambda a, b: copy.deepcopy(ZEROS),
        lambda a, b, c=[]: copy.deepcopy(c),
    ],
)
def test_what_could_be_read_wrongly_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(NotRecognized):
        read(function, 2)


def test_a_name_with_null_in_it_is_a_name() -> None:
    assert read(lambda a, b: _helper(a, b, NULLS), 2).result == A
    for function in (lambda a, b: NULLS(a, b), lambda a, b: N(a, b)):
        assert read(function, 2).result == e.Call("max", (A, B))


def test_defaults_that_a_call_would_not_use_are_not_used() -> None:
    def function(a: int, b: int = 1, *, c: int = 0) -> int:
        return a + b

    function.__kwdefaults__ = {"b": 50, "c": 0}
    assert read(function, 1).result == e.Operation("+", (A, e.Constant(1)))


@pytest.mark.parametrize("text", ["not not a", "not not (a + b)", "(not a, not not b)"])
def test_truth_is_a_bool(text: str) -> None:
    function = defined("a, b", [f"return {text}"])
    try:
        reading = read(function, 2)
    except NotRecognized:
        return  # 3.13 leaves no trace of the two but that a bool is made
    for arguments in [(0, 1), (3, 4), ("", "x")]:
        assert _agree(reading, function, arguments)


def test_jumps_over_long_branches_are_followed() -> None:
    long = " + ".join(["a[0]"] * 90)
    function = defined("a, b", [f"return ({long}) if b else a[1]"])
    assert "EXTENDED_ARG" in {each.opname for each in dis.get_instructions(function)}
    for arguments in [((1, 2), True), ((1, 2), False), ((), True)]:
        assert _agree(read(function, 2), function, arguments)


def test_a_function_of_many_branches_is_refused_in_time() -> None:
    lines = [f"a = a[0] if a[{n}] else a[1]" for n in range(40)]
    with pytest.raises(NotRecognized, match="too long"):
        read(defined("a, b", [*lines, "return a"]), 2)
