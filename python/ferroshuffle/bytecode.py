"""Read a user's function into an expression, without calling it.

What a native aggregate needs to know of a function is in its bytecode: which arguments and
constants it takes apart, adds, compares and puts together. `read` follows the bytecode of small
functions with symbols in place of values. What it does not understand it refuses, with the reason;
it never guesses, and nothing of the user's runs.

The expression has no part that the function does not compute, and the function computes nothing
that is not part of it, so that one fails where the other does (which of two parts that fail does so
first may differ). How expressions are evaluated stands in `ferroshuffle.expression`.
"""

from __future__ import annotations

import builtins
import copy
import dis
import functools
import operator
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from ferroshuffle import _core
from ferroshuffle.expression import (
    CALLABLE_BUILTINS,
    CHANGING_METHODS,
    FOLDING,
    IN_PLACE,
    PURE_METHODS,
    Argument,
    Build,
    Call,
    Conditional,
    Constant,
    Expression,
    Item,
    Method,
    Operation,
    Reading,
    all_parts,
)
from ferroshuffle.node import Node, replace

__all__ = ["NotRecognized", "read"]

# Enough for every shape that is worth a native form; it also bounds functions of many branches,
# each of which doubles the ways through.
MOST_STEPS = 400
MOST_CALLS_DEEP = 4


class NotRecognized(Exception):
    """A function is not one that can be read; says why, in words for the user."""


_OPERATORS: dict[Callable[..., Any], str] = {
    operator.add: "+",
    operator.iadd: "+=",
    operator.sub: "-",
    operator.mul: "*",
    operator.and_: "&",
    operator.iand: "&=",
    operator.or_: "|",
    operator.ior: "|=",
    operator.xor: "^",
}

# Since 3.14 an argument of a `partial` may stand for one of the call's.
_PLACEHOLDER = getattr(functools, "Placeholder", object())

# As they are when nobody has put others in their place yet.
_BUILTINS = {name: getattr(builtins, name) for name in CALLABLE_BUILTINS}
_CONTAINERS = (list, set, tuple)
_UNION = set.union
_LOWER = str.lower
_DEEPCOPY = copy.deepcopy

_NAMES_OF_3_10 = {
    "ADD": "+",
    "SUBTRACT": "-",
    "MULTIPLY": "*",
    "AND": "&",
    "OR": "|",
    "XOR": "^",
}

_IMMUTABLE = (int, float, complex, str, bytes, bool, type(None))


def read(
    function: Callable[..., Any],
    arity: int,
    beside: Iterable[Callable[..., Any]] = (),
    is_sent: bool = False,
) -> Reading:
    """Return what `function` does when it is called with `arity` positional arguments.

    Raises `NotRecognized` where it does anything that an expression has no form for.

    Variables of enclosing functions have to stay what they are: no function may set them that may
    still be called. The functions `beside` are known to be called with this one. With `is_sent`, it
    is a copy of all these functions, made now, that is called: what their enclosing function sets
    when it goes on does not matter then.

    Examples
    --------
    >>> read(lambda a, b: a + b, 2).result
    Operation(operator='+', operands=(Argument(index=0), Argument(index=1)))
    >>> read(print, 1)
    Traceback (most recent call last):
        ...
    ferroshuffle.bytecode.NotRecognized: calls `print`, which is not recognised
    """
    path = _Path()
    arguments = tuple(Argument(index) for index in range(arity))
    reader = _Reader((function, *beside), is_sent)
    return reader.call(function, arguments, path, lambda value, end: end.reading(value))


#: What an interpreter puts beside a function that is called without an object.
_NULL = None


class _Attribute(Node):
    """A method that is going to be called."""

    of: Expression
    name: str


class _Object(Node):
    """An object that is no constant, as it may change: a function or a module, a list."""

    value: Any
    what: str
    #: It is one function's alone, as far as can be seen.
    is_own: bool = False

    __eq__ = object.__eq__
    __hash__ = object.__hash__


_Cell = Expression | _Attribute | _Object | None
_Stack = tuple[_Cell, ...]
_Locals = dict[str, _Cell]
_Cells = tuple[types.CellType, ...]


class _Path(Node):
    """What was computed on one way through a function, and what of it is known to be needed."""

    computed: tuple[Expression, ...] = ()
    needed: tuple[Expression, ...] = ()
    changes: tuple[Method, ...] = ()

    def computing(self, *values: Expression) -> _Path:
        return replace(self, computed=(*self.computed, *values))

    def needing(self, value: Expression) -> _Path:
        return replace(self, needed=(*self.needed, value))

    def changing(self, change: Method) -> _Path:
        changes = (*self.changes, change)
        # Changes are told before the result: what was computed before them must not be in it.
        _check_needed(self.computed, changes)
        return replace(self, changes=changes)

    def reading(self, result: Expression) -> Reading:
        _check_needed(self.computed, (*self.changes, *self.needed, result))
        return Reading(self.changes, result)


def _check_needed(computed: Iterable[Expression], roots: Iterable[Expression]) -> None:
    needed = {id(each): each for each in all_parts(*roots)}
    # Of what is unpacked, one item tells that there are as many as there have to be.
    unpacked = {_unpacking(each) for each in needed.values()} - {None}
    for each in computed:
        if id(each) not in needed and _unpacking(each) not in unpacked:
            _refuse("computes something that its result does not show")


def _unpacking(part: Expression) -> tuple[int, int] | None:
    """Return what is unpacked to how many names, where a part is an item of that."""
    if isinstance(part, Item) and part.unpacked is not None:
        return id(part.of), part.unpacked
    return None


#: Goes on with the value of a call: there may be several, one for each way through it.
_Then = Callable[[Expression, _Path], Reading]


class _Reader:
    """Follows functions and those that they call."""

    def __init__(self, functions: Iterable[Callable[..., Any]], is_sent: bool) -> None:
        self.functions = functions
        self.is_sent = is_sent
        self.steps = 0
        self.depth = 0

    def call(
        self,
        function: Callable[..., Any],
        arguments: _Stack,
        path: _Path,
        then: _Then,
        keywords: Mapping[str, _Cell] | None = None,
    ) -> Reading:
        """Follow a call, and then go on with its value."""
        # Exactly these types: others may claim to be one and call otherwise.
        if type(function) is _core.StopIterationGuard:
            return self.call(function.__wrapped__, arguments, path, then, keywords)
        if type(function) is functools.partial:
            if any(value is _PLACEHOLDER for value in function.args):
                _refuse("is a `partial` with a `Placeholder`")
            first = (_held(value, "an argument of a `partial`") for value in function.args)
            given = {k: _held(v, f"the argument `{k}`") for k, v in function.keywords.items()}
            given |= keywords or {}
            return self.call(function.func, (*first, *arguments), path, then, given)
        if function is _DEEPCOPY and len(arguments) == 1 and not keywords:
            return then(*_copied(arguments[0], path))
        if type(function) is types.FunctionType:
            return self.call_python(function, arguments, keywords or {}, path, then)
        has_name = type(function) in {types.BuiltinFunctionType, type}
        name = function.__name__ if has_name else type(function).__name__
        if keywords:
            _refuse(f"calls `{name}` with keywords, which is not recognised")
        return then(*self.call_known(function, name, tuple(map(_value, arguments)), path))

    def call_known(
        self,
        function: Callable[..., Any],
        name: str,
        arguments: tuple[Expression, ...],
        path: _Path,
    ) -> tuple[Expression, _Path]:
        spelt = next((o for known, o in _OPERATORS.items() if known is function), None)
        if spelt is not None and len(arguments) == 2:
            return _computed(Operation(spelt, arguments), path)
        if name in _BUILTINS and function is _BUILTINS[name]:
            if len(arguments) < 2 and name in {"max", "min"}:
                _refuse(f"calls `{name}` with one argument, which is not recognised")
            return _computed(Call(name, arguments), path)
        if function is _UNION and len(arguments) == 2:
            return _computed(Method(arguments[0], "union", arguments[1:]), path)
        if function is _LOWER and len(arguments) == 1:
            return _computed(Method(arguments[0], "lower", ()), path)
        if type(function) is type and function in _CONTAINERS and len(arguments) < 2:
            return _container(function.__name__, arguments, path)
        if type(function) is operator.itemgetter and len(arguments) == 1:
            indices = function.__reduce__()[1]
            if _is_immutable(indices):
                items = [Item(arguments[0], Constant(index)) for index in indices]
                if len(items) == 1:
                    return _computed(items[0], path)
                return _computed(Build("tuple", tuple(items)), path.computing(*items))
        raise NotRecognized(f"calls `{name}`, which is not recognised")

    def call_python(
        self,
        function: types.FunctionType,
        arguments: _Stack,
        keywords: Mapping[str, _Cell],
        path: _Path,
        then: _Then,
    ) -> Reading:
        if self.depth >= MOST_CALLS_DEEP:
            _refuse("calls functions that call functions, too deep to follow")
        variables = _bind(function, arguments, keywords)
        frame = _Frame(self, function)

        def returned(value: Expression, end: _Path) -> Reading:
            self.depth -= 1
            try:
                return then(value, end)
            finally:
                self.depth += 1

        self.depth += 1
        try:
            return frame.run(0, (), variables, path, returned)
        finally:
            self.depth -= 1


def _computed(value: Expression, path: _Path) -> tuple[Expression, _Path]:
    return value, path.computing(value)


def _refuse(reason: str) -> NoReturn:
    raise NotRecognized(reason)


def _is_immutable(value: Any) -> bool:
    seen: set[int] = set()
    todo = [value]
    while todo:
        each = todo.pop()
        if type(each) in {tuple, frozenset}:
            if id(each) not in seen:
                seen.add(id(each))
                todo.extend(each)
        elif type(each) not in _IMMUTABLE:
            return False
    return True


def _copied(cell: _Cell, path: _Path) -> tuple[Expression, _Path]:
    """Return what `copy.deepcopy` makes of an object, such as the zero of `aggregateByKey`."""
    if isinstance(cell, Constant):
        return cell, path
    if not isinstance(cell, _Object) or not cell.is_own:
        _refuse("copies something that may change")
    built: list[Expression] = []
    whole = _built(cell.value, built, set())
    return whole, path.computing(*built)


def _container(
    kind: str, arguments: tuple[Expression, ...], path: _Path
) -> tuple[Expression, _Path]:
    """Return a new container of what is in one that is made for it alone."""
    if not arguments:
        return _computed(Build(kind, ()), path)
    [items] = arguments
    is_its_own = any(each is items for each in path.computed)
    is_changed = any(each is items for each in all_parts(*path.changes))
    # What is in a set is there once, and in another order.
    is_as_it_stands = isinstance(items, Build) and (items.kind != "set" or kind == "set")
    if not isinstance(items, Build) or not (is_as_it_stands and is_its_own) or is_changed:
        _refuse(f"calls `{kind}` of something that is not recognised")
    others = tuple(each for each in path.computed if each is not items)
    return _computed(Build(kind, items.items), replace(path, computed=others))


def _built(value: Any, built: list[Expression], seen: set[int]) -> Expression:
    """Return a constant, or what builds an equal object; notes in `built` what is new."""
    if _is_immutable(value):
        return Constant(value)
    # An object that is in two places would be copied once, and be in two places again.
    if type(value) not in {tuple, list, set} or id(value) in seen:
        _refuse("copies something that may change")
    seen.add(id(value))
    items = tuple(_built(each, built, seen) for each in value)
    built.append(Build(type(value).__name__, items))
    return built[-1]


# Flags of a code object.
_TAKES_ANY = 0x04 | 0x08
_IS_NO_FUNCTION = 0x20 | 0x80 | 0x200


def _bind(
    function: types.FunctionType, arguments: _Stack, keywords: Mapping[str, _Cell]
) -> _Locals:
    """Return the function's parameters by name, as a call would set them."""
    code = function.__code__
    if code.co_flags & _IS_NO_FUNCTION:
        _refuse("is a generator or a coroutine")
    if code.co_flags & _TAKES_ANY:
        _refuse("takes any number of arguments")
    names = code.co_varnames[: code.co_argcount]
    if len(arguments) > len(names):
        _refuse(f"takes {len(names)} arguments and not {len(arguments)}")
    bound: _Locals = dict(zip(names, arguments, strict=False))
    keyword_only = code.co_varnames[len(names) : len(names) + code.co_kwonlyargcount]
    for name, value in keywords.items():
        by_name = (*names[code.co_posonlyargcount :], *keyword_only)
        if name in bound or name not in by_name:
            _refuse(f"is called with `{name}`, which it does not take")
        bound[name] = value
    defaults = function.__defaults__ or ()
    if len(defaults) > len(names) or len(set(code.co_varnames)) < len(code.co_varnames):
        _refuse("has been changed since it was compiled")
    late = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    given = function.__kwdefaults__ or {}
    late |= {name: given[name] for name in keyword_only if name in given}
    for name in (*names, *keyword_only):
        if name not in bound:
            if name not in late:
                _refuse(f"needs an argument `{name}`")
            bound[name] = _held(late[name], f"the default of `{name}`")
    return bound


def _held(value: Any, what: str) -> _Cell:
    """Return an object that a function holds: a constant if it cannot change."""
    return Constant(value) if _is_immutable(value) else _Object(value, what)


def _holders(cells: _Cells, at: int) -> int:
    """Return how many hold a variable of an enclosing function, and the call that asks."""
    return sys.getrefcount(cells[at])


def _enclosed() -> Callable[[], Any]:
    variable = 0
    return lambda: variable


#: Of a variable that is a single function's, which has no way to change it unseen.
_HOLDERS_OF_OWN = min(_holders(_enclosed().__closure__ or (), 0), 2)


def _is_among(functions: Iterable[Callable[..., Any]], cells: _Cells, at: int, name: str) -> bool:
    """Return whether only `functions` hold a variable, and none of them sets it."""
    holders = _holders(cells, at)
    others = {
        id(function.__closure__): function.__code__
        for function in map(_unwrapped, functions)
        if type(function) is types.FunctionType
        and function.__closure__ is not cells
        and any(each is cells[at] for each in function.__closure__ or ())
    }
    is_set = any(_rebinds(code, name) for code in others.values())
    return holders - len(others) <= _HOLDERS_OF_OWN and not is_set


def _unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    if type(function) is _core.StopIterationGuard:
        return function.__wrapped__
    return function


def _is_of_running(code: types.CodeType, name: str, is_sent: bool) -> bool:
    """Return whether a running function has the variable `name` that `code` within it looks at.

    Nothing that is defined in there sets it. If not `is_sent`, neither does that function itself.
    Whoever holds a variable is defined in the function that has it.
    """
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        enclosing = frame.f_code
        within = _within(enclosing, name) if name in enclosing.co_cellvars else []
        if any(each is code for each in within):
            return not any(_sets(each, name) for each in within) and (
                is_sent or not _sets(enclosing, name)
            )
        frame = frame.f_back
    return False


def _within(code: types.CodeType, name: str) -> list[types.CodeType]:
    """Return what is defined in a function and looks at its variable `name`, at any depth."""
    inner = [each for each in code.co_consts if isinstance(each, types.CodeType)]
    looking = [each for each in inner if name in each.co_freevars]
    return [*looking, *(deeper for each in looking for deeper in _within(each, name))]


def _sets(code: types.CodeType, name: str) -> bool:
    return any(
        step.opname in {"STORE_DEREF", "DELETE_DEREF"} and step.argval == name
        for step in _instructions(code)
    )


def _instructions(code: types.CodeType) -> list[dis.Instruction]:
    try:
        return list(dis.get_instructions(code))
    except ValueError:  # from writing out the constants
        _refuse("has an integer in it with too many digits")


def _rebinds(code: types.CodeType, name: str) -> bool:
    """Return whether a function, or one within it, sets a variable of an enclosing one."""
    return any(_sets(each, name) for each in (code, *_within(code, name)))


class _Frame:
    """The bytecode of one function, to be followed from any instruction on."""

    def __init__(self, reader: _Reader, function: types.FunctionType) -> None:
        self.reader = reader
        self.function = function
        code = function.__code__
        if getattr(code, "co_exceptiontable", b""):
            _refuse("handles exceptions")
        if code.co_cellvars:
            _refuse(f"makes a function of its own that uses `{code.co_cellvars[0]}`")
        self.instructions: list[dis.Instruction] = []
        self.places: dict[int, int] = {}
        for each in _instructions(code):
            # A jump may lead to the prefix of an instruction: it is the place of that one.
            self.places[each.offset] = len(self.instructions)
            if each.opname != "EXTENDED_ARG":
                self.instructions.append(each)

    def run(self, at: int, stack: _Stack, variables: _Locals, path: _Path, then: _Then) -> Reading:
        """Follow the instructions from `at` on to where they return, on all ways."""
        while True:
            self.reader.steps += 1
            if self.reader.steps > MOST_STEPS:
                _refuse("is too long to follow")
            step = self.instructions[at]
            name = step.opname
            at += 1
            if name == "TO_BOOL" and not _takes_truth(self.instructions[at]):
                _refuse("makes a `bool` in a way that is not recognised")
            if name in _NOTHING:
                continue
            if name == "RETURN_VALUE":
                return then(_value(stack[-1]), path)
            if name == "RETURN_CONST":
                return then(_value(_held(step.argval, "a constant")), path)
            if name in {"JUMP_FORWARD", "JUMP_ABSOLUTE"}:
                at = self.target(step, at)
            elif "JUMP" in name and "_IF_" in name:
                return self.fork(step, at, stack, variables, path, then)
            elif name in {"CALL", "CALL_FUNCTION", "CALL_METHOD"}:
                function, arguments, stack = _callee(name, stack, step.arg or 0)
                if isinstance(function, _Attribute):
                    value, path = _method(function, arguments, path)
                    stack = (*stack, value)
                    continue
                if not isinstance(function, _Object):
                    _refuse("calls what it was given")

                def go_on(
                    value: Expression,
                    end: _Path,
                    at: int = at,
                    stack: _Stack = stack,
                    variables: _Locals = variables,
                ) -> Reading:
                    return self.run(at, (*stack, value), variables, end, then)

                return self.reader.call(function.value, arguments, path, go_on)
            else:
                stack, variables, path = self.step(step, stack, variables, path)

    def target(self, step: dis.Instruction, at: int) -> int:
        target = self.places[step.argval]
        if target < at:
            _refuse("loops")
        return target

    def fork(
        self,
        step: dis.Instruction,
        at: int,
        stack: _Stack,
        variables: _Locals,
        path: _Path,
        then: _Then,
    ) -> Reading:
        """Follow both ways of a conditional jump."""
        name = step.opname
        value = _value(stack[-1])
        test: Expression = value
        if name.endswith("NONE"):
            spelt = "is not" if name.endswith("NOT_NONE") else "is"
            test, path = _computed(Operation(spelt, (value, Constant(None))), path)
        jumps_if_true = "FALSE" not in name
        # The value is left for the way that jumps where the name says so.
        jumping = stack if name.endswith("OR_POP") else stack[:-1]
        target = self.target(step, at)

        def jump(path: _Path) -> Reading:
            return self.run(target, jumping, variables, path, then)

        def fall(path: _Path) -> Reading:
            return self.run(at, stack[:-1], variables, path, then)

        if isinstance(test, Constant):
            return jump(path) if bool(test.value) == jumps_if_true else fall(path)
        path = path.needing(test)
        jumped, fallen = jump(path), fall(path)
        if jumped.changes != path.changes or fallen.changes != path.changes:
            _refuse("changes something on one way and not on another")
        if jumps_if_true:
            return Reading(path.changes, Conditional(test, jumped.result, fallen.result))
        return Reading(path.changes, Conditional(test, fallen.result, jumped.result))

    def step(
        self, step: dis.Instruction, stack: _Stack, variables: _Locals, path: _Path
    ) -> tuple[_Stack, _Locals, _Path]:
        """Follow one instruction that neither jumps nor calls."""
        name, argument = step.opname, step.argval
        if name in _LOADS_OF_LOCALS:
            names = argument if isinstance(argument, tuple) else (argument,)
            return (*stack, *(_local(each, variables) for each in names)), variables, path
        if name == "STORE_FAST":
            return stack[:-1], {**variables, argument: stack[-1]}, path
        if name == "STORE_FAST_STORE_FAST":
            first, second = argument
            return stack[:-2], {**variables, first: stack[-1], second: stack[-2]}, path
        if name == "STORE_FAST_LOAD_FAST":
            stored, loaded = argument
            variables = {**variables, stored: stack[-1]}
            return (*stack[:-1], _local(loaded, variables)), variables, path
        if name in {"LOAD_CONST", "LOAD_SMALL_INT"}:
            return (*stack, _held(argument, "a constant")), variables, path
        if name == "LOAD_DEREF":
            return (*stack, self.free(argument)), variables, path
        if name == "LOAD_GLOBAL":
            found: _Stack = (self.name(argument),)
            # Beside a function to call there is an empty place, on the side that the version says.
            if _has_empty_place(step):
                is_first = step.argrepr.startswith("NULL + ")
                found = (_NULL, *found) if is_first else (*found, _NULL)
            return (*stack, *found), variables, path
        if name in {"LOAD_ATTR", "LOAD_METHOD"}:
            is_method = name == "LOAD_METHOD" or _has_empty_place(step)
            return (*stack[:-1], *_attribute(stack[-1], argument, is_method)), variables, path
        if name == "PUSH_NULL":
            return (*stack, _NULL), variables, path
        if name == "POP_TOP":
            return stack[:-1], variables, path
        if name in _MOVES:
            return _MOVES[name](stack, step.arg or 0), variables, path
        if name == "UNPACK_SEQUENCE":
            if not argument:
                _refuse("unpacks to no names")
            value = _value(stack[-1])
            items = [Item(value, Constant(at), argument) for at in range(argument)]
            return (*stack[:-1], *reversed(items)), variables, path.computing(*items)
        count, value = _compute(step, stack)
        value, path = _computed(value, path)
        return (*stack[: len(stack) - count], value), variables, path

    def free(self, name: str) -> _Cell:
        """Return the variable `name` of the enclosing function."""
        at = self.function.__code__.co_freevars.index(name)
        cells = self.function.__closure__ or ()
        code = self.function.__code__
        is_settled = _is_among(self.reader.functions, cells, at, name) or _is_of_running(
            code, name, self.reader.is_sent
        )
        if not is_settled or _rebinds(code, name):
            _refuse(
                f"uses the variable `{name}`, which another function or a running one may change"
            )
        try:
            value = cells[at].cell_contents
        except ValueError:
            _refuse(f"uses `{name}` before it is set")
        held = _held(value, f"the variable `{name}`")
        return replace(held, is_own=True) if isinstance(held, _Object) else held

    def name(self, name: str) -> _Object:
        """Return what the global `name` stands for. No global is taken for a constant."""
        for scope in (self.function.__globals__, getattr(self.function, "__builtins__", {})):
            if type(scope) is not dict:
                _refuse(f"uses the global `{name}` of a scope that is no dict")
            if name in scope:
                return _Object(scope[name], f"the global `{name}`")
        _refuse(f"uses the global `{name}`, which there is none of")


_NOTHING = {
    "CACHE",
    "COPY_FREE_VARS",
    "NOP",
    "NOT_TAKEN",
    "PRECALL",
    "RESUME",
    "TO_BOOL",
}
_LOADS_OF_LOCALS = {
    "LOAD_FAST",
    "LOAD_FAST_BORROW",
    "LOAD_FAST_BORROW_LOAD_FAST_BORROW",
    "LOAD_FAST_CHECK",
    "LOAD_FAST_LOAD_FAST",
}


def _takes_truth(step: dis.Instruction) -> bool:
    """Return whether an instruction asks for no more than the truth of a value."""
    return "_IF_" in step.opname or step.opname in {"TO_BOOL", "UNARY_NOT"}


def _copy(stack: _Stack, depth: int) -> _Stack:
    return (*stack, stack[-depth])


def _swap(stack: _Stack, depth: int) -> _Stack:
    cells = list(stack)
    cells[-1], cells[-depth] = cells[-depth], cells[-1]
    return tuple(cells)


def _rotate(stack: _Stack, depth: int) -> _Stack:
    return (*stack[:-depth], stack[-1], *stack[-depth:-1])


_MOVES: dict[str, Callable[[_Stack, int], _Stack]] = {
    "COPY": _copy,
    "DUP_TOP": lambda stack, _: _copy(stack, 1),
    "DUP_TOP_TWO": lambda stack, _: (*stack, *stack[-2:]),
    "ROT_FOUR": lambda stack, _: _rotate(stack, 4),
    "ROT_N": _rotate,
    "ROT_THREE": lambda stack, _: _rotate(stack, 3),
    "ROT_TWO": lambda stack, _: _rotate(stack, 2),
    "SWAP": _swap,
}


def _value(cell: _Cell) -> Expression:
    if isinstance(cell, Expression):
        return cell
    if isinstance(cell, _Object):
        _refuse(f"uses {cell.what}, a `{type(cell.value).__name__}`, which may change")
    _refuse("uses a method without calling it")


def _local(name: str, variables: _Locals) -> _Cell:
    if name not in variables:
        _refuse(f"uses `{name}` before it is set")
    return variables[name]


def _compute(step: dis.Instruction, stack: _Stack) -> tuple[int, Expression]:
    """Return how many operands an instruction takes from the stack, and what it makes of them."""
    name = step.opname

    def operands(count: int) -> tuple[Expression, ...]:
        return tuple(map(_value, stack[len(stack) - count :]))

    if name in {"BUILD_TUPLE", "BUILD_LIST", "BUILD_SET"}:
        count = step.arg or 0
        return count, Build(name.removeprefix("BUILD_").lower(), operands(count))
    if name == "BINARY_SUBSCR" or (name == "BINARY_OP" and step.argrepr == "[]"):
        of, index = operands(2)
        if not isinstance(index, Constant):
            _refuse("uses an index that is no constant")
        return 2, Item(of, index)
    if name == "BINARY_OP" and step.argrepr in FOLDING | IN_PLACE:
        return 2, Operation(step.argrepr, operands(2))
    kind, _, rest = name.partition("_")
    if kind in {"BINARY", "INPLACE"} and rest in _NAMES_OF_3_10:
        return 2, Operation(_NAMES_OF_3_10[rest] + "=" * (kind == "INPLACE"), operands(2))
    if name == "COMPARE_OP":
        return 2, Operation(step.argval, operands(2))
    if name == "IS_OP":
        return 2, Operation("is not" if step.arg else "is", operands(2))
    if name == "CONTAINS_OP":
        return 2, Operation("not in" if step.arg else "in", operands(2))
    if name == "UNARY_NEGATIVE":
        return 1, Operation("-", operands(1))
    if name == "UNARY_NOT":
        return 1, Operation("not", operands(1))
    if name.startswith(("FOR_ITER", "GET_ITER", "JUMP_BACKWARD")):
        _refuse("loops")
    spelt = f" `{step.argrepr}`" if name == "BINARY_OP" else f" ({name})"
    _refuse(f"does something{spelt} that is not recognised")


def _has_empty_place(step: dis.Instruction) -> bool:
    """Return whether a load leaves an empty place beside what it loads, as is told by its name."""
    return bool(step.argrepr != step.argval)


def _callee(name: str, stack: _Stack, count: int) -> tuple[_Cell, _Stack, _Stack]:
    """Return what is called and with what, and the stack below."""
    below = len(stack) - count
    arguments = stack[below:]
    if name == "CALL_FUNCTION":
        return stack[below - 1], arguments, stack[: below - 1]
    # Beside the function there is an empty place, before it or behind it, as versions have it.
    first, second = stack[below - 2 : below]
    if (first is _NULL) == (second is _NULL) or _NULL in arguments:
        _refuse("calls something in a way that is not understood")
    return (second if first is _NULL else first), arguments, stack[: below - 2]


def _attribute(cell: _Cell, name: str, is_method: bool) -> _Stack:
    """Return what reading the attribute `name` leaves on the stack."""
    if isinstance(cell, _Object) and type(cell.value) is types.ModuleType:
        if name not in vars(cell.value):
            _refuse(f"uses `{name}` of a module, which it does not have")
        found = _Object(vars(cell.value)[name], f"`{name}` of a module")
        return (found, _NULL) if is_method else (found,)
    if not is_method:
        _refuse(f"uses an attribute `{name}`")
    return _Attribute(_value(cell), name), _NULL


def _method(method: _Attribute, arguments: _Stack, path: _Path) -> tuple[Expression, _Path]:
    """Return the value of a call of a method."""
    call = Method(method.of, method.name, tuple(map(_value, arguments)))
    if method.name in CHANGING_METHODS:
        return Constant(None), path.changing(call)
    if method.name in PURE_METHODS:
        return _computed(call, path)
    _refuse(f"calls the method `{method.name}`, which is not recognised")
