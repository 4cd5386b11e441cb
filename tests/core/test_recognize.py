"""Recognising aggregates: what three functions are taken for is what they make together."""

from __future__ import annotations

import copy
import functools
import inspect
import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferroshuffle import aggregate as g
from ferroshuffle import expression as e
from ferroshuffle.recognize import NotRecognized, recognize
from tests.compat.exact import exact
from tests.core.evaluate import Run, applied, defined
from tests.core.shuffles import Functions, from_zero, functions_of

#: The values of a key, as they come to several map tasks.
Shares = list[list[Any]]


class OutsideError(Exception):
    """The aggregate does not hold for a value, and the user's functions would be called."""


def started(part: g.State | g.Fields, value: Any) -> Any:
    """Return the combiner that the first value makes."""
    if isinstance(part, g.State):
        return stepped(part.first, evaluated(part.create, None, value), value)
    _check_values(part, value)
    return tuple(started(each, value) for each in part.fields)


def merged(part: g.State | g.Fields, which: str, combiner: Any, value: Any) -> Any:
    """Return what becomes of a combiner at the step of the name `which`."""
    if isinstance(part, g.State):
        return stepped(getattr(part, which), combiner, value)
    if which == "merge_value":
        _check_values(part, value)
    fields = zip(part.fields, combiner, strict=True)
    return tuple(merged(each, which, own, value) for each, own in fields)


def _check_values(part: g.Fields, value: Any) -> None:
    for each in part.values:
        found = evaluated(each, None, value)
        if type(found) is not tuple or len(found) != len(part.fields):
            raise OutsideError


class InColumns(Run):
    """Evaluates as on columns: what may be changed in the middle of an expression is outside."""

    def compute(self, node: e.Expression) -> Any:
        if isinstance(node, e.Operation) and node.operator in e.IN_PLACE:
            self.check(not isinstance(self.value(node.operands[0]), (list, set)))
        if isinstance(node, e.Item) and node.unpacked is not None:
            self.check(isinstance(self.value(node.of), (tuple, list)))
        return super().compute(node)

    def check(self, is_inside: bool) -> None:
        if not is_inside:
            raise OutsideError


def evaluated(expression: e.Expression, combiner: Any, value: Any) -> Any:
    """Return the value of an expression, which is nobody else's, as what is in columns is."""
    return copy.deepcopy(InColumns((combiner, value)).value(expression))


def stepped(step: g.Step, combiner: Any, value: Any) -> Any:
    if isinstance(step, g.Keep):
        return combiner
    if isinstance(step, g.Compute):
        return evaluated(step.result, combiner, value)
    assert isinstance(step, (g.Take, g.Fold, g.Choose))
    if isinstance(step, g.Choose) and bool(evaluated(step.test, combiner, value)) is step.keeps:
        return combiner
    found = evaluated(step.value, combiner, value)
    return folded(step, combiner, found) if isinstance(step, g.Fold) else found


ITEM_METHODS = {"append", "add"}


def folded(step: g.Fold, combiner: Any, value: Any) -> Any:
    left, right = (value, combiner) if step.is_swapped else (combiner, value)
    is_container = isinstance(left, (list, set)) or isinstance(right, (list, set))
    if is_container and step.operator not in ITEM_METHODS and type(left) is not type(right):
        raise OutsideError
    if step.operator in e.FOLDING:
        return applied(step.operator + "=" * step.is_in_place, left, right)
    returned = getattr(left, step.operator)(right)
    return left if step.is_in_place else returned


def by_aggregate(aggregate: g.Aggregate, shares: Shares) -> Any:
    """Return what the aggregate makes of one key's values."""

    def checked(combiner: Any) -> Any:
        if aggregate.is_for_constant_combiners and any(_changeable(combiner)):
            raise OutsideError
        return combiner

    def merge(which: str, combiner: Any, value: Any) -> Any:
        return checked(merged(aggregate.combiner, which, combiner, value))

    combiners = []
    for first, *values in shares:
        if aggregate.is_for_constant_values and any(_changeable((first, *values))):
            raise OutsideError
        combiner = checked(started(aggregate.combiner, first))
        merge_value = functools.partial(merge, "merge_value")
        combiners.append(functools.reduce(merge_value, values, combiner))
    return functools.reduce(functools.partial(merge, "merge_combiners"), combiners)


def by_functions(functions: Functions, shares: Shares) -> Any:
    """Return what the functions make of one key's values."""
    create, merge_value, merge_combiners = functions
    combiners = [functools.reduce(merge_value, rest, create(first)) for first, *rest in shares]
    return functools.reduce(merge_combiners, combiners)


def _changeable(thing: Any) -> Iterator[int]:
    """Yield what of a thing can change, once for each place that it is in."""
    if isinstance(thing, (list, set)):
        yield id(thing)
    if isinstance(thing, (list, tuple)):
        for each in thing:
            yield from _changeable(each)


def holds(functions: Functions, shares: Shares) -> bool:
    """Check the aggregate against the functions; return whether it holds for these values."""
    aggregate = recognize(*functions)
    try:
        ours = by_aggregate(aggregate, copy.deepcopy(shares))
    except Exception:
        return False
    read = copy.deepcopy(shares)
    result = by_functions(functions, read)
    assert exact(ours) == exact(result)
    places = list(_changeable(result))
    assert len(places) == len(set(places))
    if not aggregate.changes_values:
        assert exact(read) == exact(shares)
    return True


# What follows draws the text of three functions: create(v), merge_value(c, v) and
# merge_combiners(c, v), of a combiner `c`, or of the fields of one that is a tuple.
@st.composite
def expressions(draw: st.DrawFn, names: list[str], size: int = 3) -> str:
    if size == 0 or draw(st.booleans()):
        return draw(st.sampled_from([*names, *names, "1", "2.5", "'x'", "None", "True", "[]"]))
    inner = expressions(names, size - 1)
    shape = draw(
        st.sampled_from(
            [
                "({} + {})",
                "({} + {})",
                "({} * {})",
                "({} - {})",
                "({} | {})",
                "({} < {})",
                "({} or {})",
                "({} and {})",
                "({} if {} else {})",
                "({} if {} < {} else {})",
                "({}, {})",
                "[{}]",
                "{{{}}}",
                "max({}, {})",
                "min({}, {})",
                "add({}, {})",
                "({}).union({})",
                "len({})",
                "(not {})",
            ]
        )
    )
    return shape.format(*(draw(inner) for _ in range(shape.replace("{{", "").count("{}"))))


IN_VALUE = ["v", "v", "v[0]", "v[1]", "v[-1]"]


CHANGES = ["{}.append({})", "{}.append({})", "{}.extend({})", "{}.add({})", "{}.update({})"]
CHOICES = ["max({0}, {1})", "min({1}, {0})", "{0} if {0} > {1} else {1}", "{0} or {1}"]


@st.composite
def bodies(draw: st.DrawFn, size: int, values: list[list[str]]) -> list[str]:
    """Draw a function that merges; `values` are those that a field of each index looks at."""
    names = ", ".join(f"c{at}" for at in range(size))
    is_unpacked = bool(size) and draw(st.booleans())
    lines = [f"{names}, = c"] if is_unpacked else []
    results = []
    for at, value in enumerate(values):
        own = [f"c{at}"] if is_unpacked else [f"c[{at}]", f"c[{at - size}]"] if size else ["c"]
        kind = draw(st.sampled_from(["keep", "change", "in place", "choose", "fold", "any", "any"]))
        if kind == "change":
            lines.append(draw(st.sampled_from(CHANGES)).format(own[0], draw(expressions(value, 1))))
        if kind == "in place" and own[0].isidentifier():
            lines.append(f"{own[0]} {draw(st.sampled_from('+|*'))}= {draw(expressions(value, 1))}")
        if kind == "choose":
            choice = draw(st.sampled_from(CHOICES))
            results.append(choice.format(own[-1], draw(expressions(value, 0))))
        elif kind == "fold":
            results.append(f"{own[-1]} + {draw(expressions(value, 1))}")
        elif kind == "any":
            items = [f"{own[0]}[{draw(st.integers(-1, 1))}]"]
            results.append(draw(expressions([*own, *items, *value], 2)))
        else:
            results.append(own[0])
    if not size:
        return [*lines, f"return {results[0]}"]
    whole = "c" if draw(st.booleans()) and not is_unpacked else f"({', '.join(results)},)"
    return [*lines, f"return {'v' if draw(st.integers(0, 9)) == 0 else whole}"]


@st.composite
def triples(draw: st.DrawFn) -> tuple[list[str], list[str], list[str]]:
    size = draw(st.integers(0, 3))
    of_value = [IN_VALUE] * max(size, 1)
    of_other = [[f"v[{at}]", f"v[{at - size}]"] for at in range(size)] or [["v"]]
    merge_value = draw(bodies(size, of_value))
    merge_combiners = draw(bodies(size, of_other))
    kind = draw(st.sampled_from(["value", "fields", "zero"]))
    fields = ", ".join(draw(expressions(IN_VALUE, 1)) for _ in of_value)
    create = f"({fields},)" if size else fields
    if kind == "zero":
        zero = ", ".join(draw(st.sampled_from(["0", "''", "[]", "set()", "0.5"])) for _ in of_value)
        return [f"({zero},)" if size else zero], merge_value, merge_combiners
    return [f"return {'v' if kind == 'value' else create}"], merge_value, merge_combiners


def functions_of_texts(texts: tuple[list[str], list[str], list[str]]) -> Functions:
    create, *merging = texts
    merge_value, merge_combiners = (defined("c, v", lines) for lines in merging)
    if create[0].startswith("return "):
        return defined("v", create), merge_value, merge_combiners
    return from_zero(eval(create[0]), merge_value), merge_value, merge_combiners


scalars = st.one_of(
    st.integers(-3, 3), st.sampled_from([2**62, 0.5, -0.0, "", "x", "yx", None, True])
)
alike = st.sampled_from(
    [
        st.integers(-3, 3),
        st.floats(),
        st.text("xy", max_size=2),
        st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
        st.tuples(st.text("xy", max_size=2), st.floats(), st.lists(scalars, max_size=2)),
        st.lists(scalars, max_size=3),
        st.sets(scalars, max_size=2),
        st.tuples(st.lists(scalars, max_size=3), st.integers(-3, 3)),
        scalars,
    ]
).flatmap(lambda kind: st.lists(st.lists(kind, min_size=1, max_size=4), min_size=1, max_size=3))


@given(triples(), st.lists(alike, min_size=4, max_size=4))
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_what_is_recognised_is_what_the_functions_do(
    texts: tuple[list[str], list[str], list[str]], values: list[Shares]
) -> None:
    functions = functions_of_texts(texts)
    try:
        recognize(*functions)
    except NotRecognized:
        return
    for shares in values:
        holds(functions, shares)


def told(part: g.State | g.Fields) -> str:
    """Return a combiner's steps of merging in short, those of values before those of combiners."""
    if isinstance(part, g.Fields):
        return f"({', '.join(map(told, part.fields))})"
    steps = [_told(part.merge_value), _told(part.merge_combiners)]
    return "/".join(dict.fromkeys(steps))


def _told(step: g.Step) -> str:
    if isinstance(step, g.Fold):
        sides = "x {} c" if step.is_swapped else "c {} x"
        return sides.format(step.operator + "=" * step.is_in_place)
    if isinstance(step, g.Choose):
        test = step.test
        spelt = test.operator if isinstance(test, e.Operation) else "truth"
        return f"{'keep if' if step.keeps else 'take if'} {spelt}"
    return type(step).__name__.lower()


def same(value: Any) -> Any:
    return value


def reducing(function: Callable[..., Any]) -> Functions:
    return same, function, function


def _extended(a: list[int], b: list[int]) -> list[int]:
    a.extend(b)
    return a


def _appended(a: list[int], b: int) -> list[int]:
    a += [b]
    return a


def _older(a: Any, b: Any) -> Any:
    if a[1] <= b[1]:
        return a
    return b


def _sums(a: Any, b: Any) -> Any:
    return a[0] + b[0], a[1] + b[1]


def _statistics(c: Any, v: float) -> Any:
    count, total, smallest, largest = c
    return count + 1, total + v, min(smallest, v), v if v > largest else largest


def _both_statistics(a: Any, b: Any) -> Any:
    return a[0] + b[0], b[1] + a[1], min(a[2], b[2]), b[3] if b[3] > a[3] else a[3]


def _set_of(v: int) -> set[int]:
    return set([v])  # noqa: C405 (people write that)


def _list_of(v: int) -> list[int]:
    found = list()  # noqa: C408 (people write that)
    found.append(v)
    return found


def _known(a: Any, b: Any) -> Any:
    if a is None:
        return b
    return a if b is None else a + b


INTS: Shares = [[1, 5, -3], [0], [2, 2]]
PAIRS: Shares = [[(1, 2.5), (0, -1.0)], [(7, 0.25)]]
TEXTS: Shares = [["b", "a"], ["", "ab"]]
LISTS: Shares = [[[1], [2, 3]], [[], [4]]]
SETS: Shares = [[{1}, {2, 3}], [set(), {1}]]


@pytest.mark.parametrize(
    ("functions", "shares", "expected"),
    [
        (reducing(lambda a, b: a + b), INTS, "c + x"),
        (reducing(lambda a, b: b + a), TEXTS, "x + c"),
        (reducing(operator.add), INTS, "c + x"),
        (reducing(operator.iadd), INTS, "c += x"),
        (reducing(lambda a, b: (a[0] + b[0], a[1] + b[1])), PAIRS, "(c + x, c + x)"),
        (reducing(lambda a, b: (a[-2] + b[0], b[-1] + a[1])), PAIRS, "(c + x, x + c)"),
        (reducing(lambda a, b: a + b), LISTS, "c + x"),
        (reducing(_extended), LISTS, "c extend= x"),
        (reducing(lambda a, b: a.extend(b) or a), LISTS, "c extend= x"),
        (reducing(lambda a, b: a.union(b)), SETS, "c union x"),
        (reducing(lambda a, b: a | b), SETS, "c | x"),
        (reducing(lambda a, b: a & b), SETS, "c & x"),
        (reducing(lambda a, b: a.update(b) or a), SETS, "c update= x"),
        (reducing(max), INTS, "take if <"),
        (reducing(min), TEXTS, "take if >"),
        (reducing(lambda a, b: max(b, a)), INTS, "keep if >"),
        (reducing(lambda a, b: a if a > b else b), INTS, "keep if >"),
        (reducing(lambda a, b: a if a[1] > b[1] else b), PAIRS, "keep if >"),
        (reducing(lambda a, b: a if b == a else b), INTS, "keep if =="),
        (reducing(lambda a, b: a if b != a else b), INTS, "keep if !="),
        (reducing(lambda a, b: b if a is None else a), INTS, "take if is"),
        (reducing(lambda a, b: a if a is not None else b), INTS, "take if is"),
        (reducing(lambda a, b: a if a not in ("x", "y") else b), TEXTS, "take if in"),
        (reducing(lambda a, b: a if b is not True and b is not False else b), INTS, "compute"),
        (reducing(_older), PAIRS, "keep if <="),
        (reducing(lambda a, _: a), INTS, "keep"),
        (reducing(lambda _, b: b), INTS, "take"),
        (reducing(lambda a, b: a or b), INTS, "keep if truth"),
        (reducing(lambda a, b: a and b), INTS, "take if truth"),
        (reducing(lambda a, b: a + " " + b), TEXTS, "compute"),
        (reducing(_known), INTS, "compute"),
        (
            (lambda v: (1, v, v, v), _statistics, _both_statistics),
            INTS,
            "(c + x, c + x/x + c, take if >, take if <)",
        ),
        ((lambda v: [v], lambda c, v: c + [v], lambda a, b: a + b), INTS, "c + x"),
        ((lambda v: [v], _appended, _extended), INTS, "c += x/c extend= x"),
        ((lambda v: {v}, lambda c, v: c.add(v) or c, lambda a, b: a | b), INTS, "c add= x/c | x"),
        ((_set_of, lambda c, v: c | {v}, set.union), INTS, "c | x/c union x"),
        ((_list_of, lambda c, v: c + [v], _extended), INTS, "c + x/c extend= x"),
        (functions_of("reduceByKey"), INTS, "c + x"),
        (functions_of("foldByKey"), INTS, "c + x"),
        (functions_of("foldByKey from text"), TEXTS, "c + x"),
        (functions_of("aggregateByKey"), INTS, "(c + x, c + x)"),
        (functions_of("aggregateByKey from a list"), INTS, "c append= x/c extend= x"),
        (functions_of("combineByKey"), INTS, "(c + x, c + x)"),
        (functions_of("distinct"), INTS, "keep"),
        (functions_of("groupByKey"), INTS, "c append= x/c extend= x"),
    ],
)
def test_shapes_of_public_code(functions: Functions, shares: Shares, expected: str) -> None:
    assert told(recognize(*functions).combiner) == expected
    assert holds(functions, shares)


def _counted_words(c: Any, v: str) -> Any:
    c[0].append(v)
    c[1].add(v)
    return c


def test_fields_that_change_start_anew_for_each_key() -> None:
    create = from_zero(([], set(), 0), _counted_words)
    functions = create, _counted_words, lambda a, b: (a[0] + b[0], a[1] | b[1], a[2] + b[2])
    combiner = recognize(*functions).combiner
    assert told(combiner) == "(c append= x/c + x, c add= x/c | x, keep/c + x)"
    assert holds(functions, TEXTS)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: (a[0] + b[0], a[1] + a[0]),  # a field that looks at another
        lambda a, b: (a[0] + b[0], len(a)),
        lambda a, b: (a[0], a[5]),
        lambda a, b: (a[0] + b[0], a[1], 1) if b[0] else (a[0], a[1]),  # of two sizes
        lambda a, b: (a[0] + b[0], a[1]) if a[1] > b[1] else (a[0], a[1]),
    ],
)
def test_a_tuple_that_cannot_be_divided_is_computed_as_a_whole(
    function: Callable[..., Any],
) -> None:
    assert told(recognize(*reducing(function)).combiner) == "compute"
    holds(reducing(function), PAIRS)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: (a[0] + b[0], a[1]) if b[1] > 0 else a,
        lambda a, b: (a[0] + b[0], a[1] if a[1] > b[1] else b[1]),
    ],
)
def test_a_choice_between_tuples_is_one_of_fields(function: Callable[..., Any]) -> None:
    aggregate = recognize(*reducing(function))
    assert isinstance(aggregate.combiner, g.Fields)
    assert holds(reducing(function), PAIRS)


def test_a_test_that_may_fail_is_not_lost() -> None:
    functions = reducing(lambda a, b: (1, 2) if b > "" else (1, 2))  # noqa: RUF034
    assert not holds(functions, INTS)


@pytest.mark.parametrize("value", [(1, 2, 3), (1,), [1, 2], "ab", 7])
def test_values_that_are_no_tuples_of_so_many_fields_are_outside(value: Any) -> None:
    functions = reducing(lambda a, b: (a[0] + b[0], a[1] + b[1]))
    assert holds(functions, [[(1, 2)]])
    with pytest.raises(OutsideError):
        by_aggregate(recognize(*functions), [[value]])


@pytest.mark.parametrize(
    ("functions", "is_expected"),
    [
        (reducing(_extended), True),
        (reducing(operator.iadd), True),
        (reducing(lambda a, b: a + b), False),
        ((lambda v: [v], _appended, _extended), False),
        ((lambda v: v[0], _extended, _extended), True),
        ((lambda v: v if v else [], _extended, _extended), True),
        ((lambda v: [] if v else v, _extended, _extended), True),
        ((lambda v: max(v, []), _extended, _extended), True),
        ((lambda v: (v, 0), lambda c, v: c[0].extend(v) or c, _sums), True),
        ((lambda v: ([v], 0), lambda c, v: c[0].extend(v) or c, _sums), False),
        ((lambda v: v + [], _extended, _extended), False),
        ((lambda v: operator.iadd(v, [0]), _extended, _extended), True),
        ((lambda v: [], lambda c, v: v, _extended), True),
        ((lambda v: (v, 0), lambda c, v: (c[0].extend(v) or c[0], c[1]), max), None),
    ],
)
def test_functions_that_change_what_came_with_values_are_told(
    functions: Functions, is_expected: bool | None
) -> None:
    if is_expected is None:
        with pytest.raises(NotRecognized, match="changes"):
            recognize(*functions)
    else:
        assert recognize(*functions).changes_values is is_expected


def _early(a: Any, b: Any) -> Any:
    a += b
    return a, len(a)


DOUBLED_ONCE = defined("a, b", ["a = a + b", "return a, a"])
DOUBLED = defined("a, b", ["a = a + b", *["a = a, a"] * 60, "return a"])


@pytest.mark.parametrize(
    ("functions", "of_values", "of_combiners"),
    [
        ((lambda v: (v, v), max, max), True, False),
        ((lambda v: (v[0], v), max, max), True, False),
        ((lambda v: (v[0], v[-1]), max, max), True, False),
        ((lambda v: (v[0], v[1]), max, max), False, False),
        ((lambda v: (v[0], [v[1]], 1), max, max), False, False),
        ((lambda v: [v], lambda c, v: c + [v, v], max), True, False),
        ((lambda v: [v], lambda c, v: c + c + [v], max), False, True),
        ((lambda v: [v], max, lambda a, b: a + b + b), False, True),
        ((lambda v: v * 2, max, max), True, False),
        ((lambda v: v, lambda c, v: c * v, max), True, True),
        (reducing(_early), False, True),
        (reducing(lambda a, b: (a, a)), False, True),
        (reducing(lambda a, b: (b, b)), True, True),
        (reducing(DOUBLED_ONCE), False, True),
        (reducing(lambda a, b: (a[0] + b[0], a[1] + b[1])), False, False),
        (reducing(lambda a, b: a if a > b else b), False, False),
    ],
)
def test_objects_in_two_places_are_told(
    functions: Functions, of_values: bool, of_combiners: bool
) -> None:
    aggregate = recognize(*functions)
    assert aggregate.is_for_constant_values is of_values
    assert aggregate.is_for_constant_combiners is of_combiners


@pytest.mark.parametrize(
    ("functions", "reason"),
    [
        ((print, max, max), "`createCombiner` calls `print`"),
        ((same, print, max), "`mergeValue` calls `print`"),
        ((same, max, print), "`mergeCombiners` calls `print`"),
        ((same, lambda a, b: b.append(a) or b, max), "`mergeValue` changes something"),
        ((same, max, lambda a, b: a.extend(b)), "`mergeCombiners` changes something"),
        ((lambda v: v.append(1) or v, max, max), "`createCombiner` changes something"),
        ((same, max, lambda a, b: a.update(b, b) or a), "with 2 arguments, which is not recog"),
        ((same, lambda c, v: v.append(1) or c, max), "`mergeValue` changes something"),
        ((same, lambda c, v: c.append(len(c)) or c, max), "`mergeValue` changes something"),
        ((lambda v: ([v], 0), lambda c, v: c[2].append(v) or (c[0], c[1]), _sums), "changes"),
        ((lambda v: ([v], 0), _sums, lambda a, b: a[2].append(1) or (a[0], a[1])), "changes"),
        ((same, DOUBLED, max), "too much"),
        ((same, lambda a, b: {**a, **b}, max), "`mergeValue` does something"),
    ],
)
def test_what_is_not_recognised_says_which_function_and_why(
    functions: Functions, reason: str
) -> None:
    with pytest.raises(NotRecognized, match=reason):
        recognize(*functions)


def test_functions_nested_too_deep_for_the_stack_are_refused() -> None:
    def deep(frames: int) -> None:
        if frames:
            deep(frames - 1)
        else:
            with pytest.raises(NotRecognized, match="too deep"):
                recognize(*reducing(defined("a, b", [f"return {'-' * 90}(a + b)"])))

    deep(sys.getrecursionlimit() - len(inspect.stack(0)) - 60)


def _with_list(v: Any) -> Any:
    x: list[Any] = []
    x.append(v)
    return x, v in x


def _with_longer_list(v: Any) -> Any:
    x: list[Any] = []
    y = x
    y += v
    return len(y), len(x)


def _with_both_lists(v: Any) -> Any:
    x: list[Any] = []
    y = x
    y += v
    return y, len(x)


def _changed_on_one_way(v: Any) -> Any:
    x: list[Any] = []
    x.append(v)
    if v is None:
        return [], 0
    return x, 1


def _appended_to_first(c: Any, v: Any) -> Any:
    c[0].append(v)
    return c[0], c[1] + 1


def _looked_at_on_one_way(v: Any) -> Any:
    if v:
        x: list[Any] = []
        x += [1]
        return x, True
    y: list[Any] = []
    z = y
    z += [1]
    return z, y == []


def _with_longer_value(c: Any, v: Any) -> Any:
    v += [0]
    return c[0] + len(v), c[1] + len(v)


def _with_longer_other(a: Any, b: Any) -> Any:
    x = b[0]
    x += a[0]
    return x, b[0] == [2]


def _first(a: Any, _: Any) -> Any:
    return a


def _keep_smaller(c: Any, v: Any) -> Any:
    return c[0] if c[0][0] <= v[0] else v, c[1] + 1


def _keep_smaller_combiner(a: Any, b: Any) -> Any:
    return a[0] if a[0][0] <= b[0][0] else b[0], a[1] + b[1]


@pytest.mark.parametrize(
    ("functions", "shares"),
    [
        ((lambda v: (v, 1), _keep_smaller, _keep_smaller_combiner), [["ab", "a", "b"], ["ac"]]),
        ((lambda v: (v, 1), lambda c, v: (c[0][0], c[1]), _first), [["ab", "c"]]),
        ((lambda v: (1, v), lambda c, v: (c[0], c[1][1]), _first), [["abc", "c"]]),
        (((lambda v: (0, 0)), _with_longer_value, _sums), [[[1], [2]], [[3]]]),
        ((len, lambda c, v: c + len(operator.iadd(v, [1])), operator.add), [[[1], [2]], [[3]]]),
        ((lambda v: ([v], False), _first, _with_longer_other), [[1], [2]]),
        ((_with_longer_list, _first, _first), [[[1], [2]], [[3]]]),
        ((_with_both_lists, _first, _first), [[[1], [2]], [[3]]]),
        ((_looked_at_on_one_way, _first, _first), [[0], [1]]),
        ((lambda v: [v], lambda c, v: c[0], _extended), [[[1], [2]], [[3]]]),
        ((lambda v: (v,), lambda c, v: c[0], _first), [[1, 2]]),
        (
            (
                lambda v: (v[0], False),
                lambda c, v: (operator.iadd(v[0], c[0]), v[0] == [2]),
                _first,
            ),
            [[([1], 0), ([2], 0)]],
        ),
    ],
)
def test_what_was_once_taken_for_something_else_is_not(
    functions: Functions, shares: Shares
) -> None:
    holds(functions, shares)


def test_a_field_is_not_mistaken_for_an_item_of_it() -> None:
    functions = lambda v: (v, 1), _keep_smaller, _keep_smaller_combiner
    combiner = recognize(*functions).combiner
    assert told(combiner) == "(keep if <=, c + x)"
    assert holds(functions, [["ab", "a", "b"], ["ac"]])


@pytest.mark.parametrize(
    ("functions", "reason"),
    [
        ((_with_list, _first, _first), "`createCombiner` changes something"),
        ((_changed_on_one_way, _appended_to_first, _sums), "`createCombiner` changes something"),
        ((same, None, max), "`mergeValue` calls `NoneType`"),
        ((same, defined("c, v", [f"return c + 0x{'f' * 5000}"]), max), "too many digits"),
        ((same, lambda c, v, n=1000: v is n, max), "`mergeValue` asks whether two objects are one"),
        ((same, lambda c, v: c is v, max), "`mergeValue` asks whether two objects are one"),
        ((defined("v", [*["v = v, v"] * 60, "return v[0]"]), max, max), "too much"),
    ],
)
def test_what_could_be_taken_wrongly_is_refused(functions: Any, reason: str) -> None:
    with pytest.raises(NotRecognized, match=reason):
        recognize(*functions)


def test_constants_are_told_apart_whatever_they_are() -> None:
    huge = 1 << 20_000  # too many digits to be written out

    def merge(c: Any, v: Any, one: int = huge, other: int = 2 * huge) -> Any:
        return (c[0], c[1] + one) if v else (c[0], c[1] + other)

    assert isinstance(recognize(lambda v: (v, 1), merge, _first).combiner, g.Fields)
    nan = float("nan")
    assert e.Constant(nan) == e.Constant(nan) != e.Constant(float("nan"))
    assert e.Constant(0.0) != e.Constant(-0.0)
    assert e.Constant((1, (2,))) == e.Constant((1, (2,))) != e.Constant((1, (2.0,)))


def test_constants_of_many_parts_are_seen_through_in_time() -> None:
    many: Any = ()
    for _ in range(60):
        many = many, many

    for constant in (many, ((1, 2, 3), many)):

        def from_many(v: Any, c: Any = constant) -> Any:
            return (v, c)

        with pytest.raises(NotRecognized, match="too much"):
            recognize(from_many, _first, _first)


def _of_two_names(v: Any) -> Any:
    x, y = v, 1, 2
    return x, y


def _of_one_name(c: Any, v: Any) -> Any:
    (x,) = c
    return x + v, 1


@pytest.mark.parametrize(
    ("functions", "shares"),
    [
        ((_of_two_names, _first, _first), INTS),
        ((lambda v: ([v[0]], 1)[1], max, max), INTS),
        ((lambda v: (v, 1)[5], max, max), INTS),
        ((lambda v: (v[0], 1)[1], max, max), INTS),
        ((lambda v: ({v}, 1)[1], max, max), LISTS),
        ((lambda v: (v, 1), _of_one_name, _sums), INTS),
    ],
)
def test_what_fails_in_a_call_fails_in_the_aggregate(functions: Functions, shares: Shares) -> None:
    with pytest.raises((TypeError, ValueError, IndexError)):
        by_functions(functions, shares + shares + shares)
    assert not holds(functions, shares + shares + shares)


@pytest.mark.parametrize(
    "functions",
    [
        (lambda v: (v, 1), _sums, lambda a, b: (a[0] + b[0], a[1] + a[0])),
        (lambda v: (v,), lambda c, v: c[0], _first),
        (lambda v: (v, 1), _of_one_name, _sums),
        (lambda v: ((v, 1), (v, 2)), _first, lambda a, b: b[0]),
    ],
)
def test_what_one_function_does_with_the_whole_tuple_is_done_with_it(functions: Functions) -> None:
    assert isinstance(recognize(*functions).combiner, g.State)


def test_fields_of_the_other_combiner_are_spelt_in_one_way() -> None:
    function = lambda a, b: (a[0] + b[-2], b[-1] + a[1])  # noqa: E731
    combiner = recognize(lambda v: (v, 1), function, function).combiner
    assert isinstance(combiner, g.Fields)
    merging = [each.merge_combiners for each in combiner.fields if isinstance(each, g.State)]
    assert merging == [
        g.Fold("+", e.Item(g.VALUE, e.Constant(0))),
        g.Fold("+", e.Item(g.VALUE, e.Constant(1)), is_swapped=True),
    ]


def test_the_other_combiner_may_take_the_place_of_the_first() -> None:
    functions = lambda v: (v, 1), lambda c, v: (c[0], c[1] + 1), lambda a, b: b
    assert told(recognize(*functions).combiner) == "(keep/take, c + x/take)"
    assert holds(functions, INTS)


def _nested(c: Any, v: Any) -> Any:
    c[0][1].append(v)
    return (c[0][0] + 1, c[0][1]), c[1]


def test_tuples_in_tuples_are_divided() -> None:
    functions = (
        from_zero(((0, []), 7), _nested),
        _nested,
        lambda a, b: ((a[0][0] + b[0][0], a[0][1] + b[0][1]), b[1]),
    )
    assert told(recognize(*functions).combiner) == "((c + x, c append= x/c + x), keep/take)"
    assert holds(functions, INTS)
    functions = lambda v: ((v, 1), 0), lambda c, v: c, lambda a, b: (b[0], a[1] + b[1])
    assert told(recognize(*functions).combiner) == "((keep/take, keep/take), keep/c + x)"
    assert holds(functions, INTS)


def test_a_zero_that_is_added_to_in_place_is_changed_at_once() -> None:
    functions = from_zero([], operator.iadd), operator.iadd, operator.iadd
    combiner = recognize(*functions).combiner
    assert isinstance(combiner, g.State)
    assert combiner.create == e.Build("list", ())
    assert combiner.first == combiner.merge_value == g.Fold("+", g.VALUE, is_in_place=True)
    assert holds(functions, LISTS)


def test_what_is_looked_at_by_another_name_is_not_changed_at_once() -> None:
    combiner = recognize(_with_longer_list, _first, _first).combiner
    assert isinstance(combiner, g.Fields)
    assert all(isinstance(each, g.State) and each.first == g.Keep() for each in combiner.fields)


def test_a_comparison_of_values_stays_as_it_is() -> None:
    combiner = recognize(same, lambda c, v: c if v > 1 else v, max).combiner
    assert isinstance(combiner, g.State)
    test = e.Operation(">", (g.VALUE, e.Constant(1)))
    assert combiner.merge_value == g.Choose(test, True, g.VALUE)
