"""The examples in the docstrings run and hold."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    ("module", "at_least"),
    [
        ("ferroshuffle", 0),
        ("ferroshuffle.shuffle", 40),
        ("ferroshuffle.bytecode", 2),
        ("ferroshuffle.recognize", 3),
        ("ferroshuffle.serializers", 1),
    ],
)
def test_docstring_examples_hold(module: str, at_least: int) -> None:
    found = importlib.import_module(module)
    failed, attempted = doctest.testmod(found)
    assert failed == 0
    assert attempted >= at_least


@pytest.mark.parametrize(
    "name",
    ["ExternalMerger", "ExternalSorter", "ExternalList", "ExternalListOfList", "GroupByKey"],
)
def test_the_classes_have_examples_where_stock_s_have(name: str) -> None:
    shuffle = importlib.import_module("ferroshuffle.shuffle")
    assert doctest.DocTestParser().get_examples(getattr(shuffle, name).__doc__)
