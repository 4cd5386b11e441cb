"""Evaluate what `ferroshuffle` has read of functions, in plain Python."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from ferroshuffle import expression as e


class Run:
    """One call: computes a part when it is needed, and once."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments
        self.known: dict[int, Any] = {}

    def value(self, node: e.Expression) -> Any:
        if id(node) not in self.known:
            self.known[id(node)] = self.compute(node)
        return self.known[id(node)]

    def compute(self, node: e.Expression) -> Any:
        if isinstance(node, e.Argument):
            return self.arguments[node.index]
        if isinstance(node, e.Constant):
            return node.value
        if isinstance(node, e.Conditional):
            return self.value(node.then if self.value(node.test) else node.other)
        if isinstance(node, e.Method):
            method = getattr(self.value(node.of), node.name)
            return method(*map(self.value, node.arguments))
        values = list(map(self.value, node.parts()))
        if isinstance(node, e.Item):
            of, index = values
            if node.unpacked is not None:
                of = list(of)
                if len(of) != node.unpacked:
                    raise ValueError("not as many as there are names")
            return of[index]
        if isinstance(node, e.Build):
            return {"tuple": tuple, "list": list, "set": set}[node.kind](values)
        if isinstance(node, e.Call):
            return {"abs": abs, "len": len, "max": max, "min": min}[node.name](*values)
        assert isinstance(node, e.Operation)
        return applied(node.operator, *values)


def applied(spelt: str, *operands: Any) -> Any:
    """Return what an operator makes of its operands; one in place returns the left, changed."""
    scope = dict(zip(["left", "right"], operands, strict=False))
    if len(operands) == 1:
        return eval(f"{spelt} left", scope)
    if spelt in e.IN_PLACE:
        exec(f"left {spelt} right", scope)
        return scope["left"]
    return eval(f"left {spelt} right", scope)


def run(reading: e.Reading, *arguments: Any) -> Any:
    """Do what was read."""
    this = Run(arguments)
    for change in reading.changes:
        this.value(change)
    return this.value(reading.result)


def defined(parameters: str, lines: list[str]) -> Callable[..., Any]:
    """Return a function of a text; `add` and `x` are among its globals."""
    scope: dict[str, Any] = {"add": operator.add, "x": 0}
    body = "".join(f"    {line}\n" for line in lines)
    exec(f"def function({parameters}):\n{body}", scope)
    function: Callable[..., Any] = scope["function"]
    return function
