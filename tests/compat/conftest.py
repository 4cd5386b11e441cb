"""Each test of merging and sorting runs on both rungs: functions called, and what they compute."""

from __future__ import annotations

import pytest

from ferroshuffle import shuffle

_OF_BOTH = {
    "test_group_by",
    "test_hostile_keys",
    "test_merger_in_memory",
    "test_merger_spilling",
    "test_sort_keys",
    "test_sorter",
    "test_user_functions",
}
# How many records are merged by the functions, before they are read.
_RUNGS = {"called": None, "typed": 1}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in _OF_BOTH:
        metafunc.parametrize("_rung", _RUNGS, indirect=True)


@pytest.fixture(autouse=True)
def _rung(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if hasattr(request, "param"):
        monkeypatch.setattr(shuffle, "_records_before_typed", _RUNGS[request.param])
