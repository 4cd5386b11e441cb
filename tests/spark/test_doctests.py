"""PySpark's own docstring examples pass with ferroshuffle exactly as without."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyspark.shuffle
import pytest

import ferroshuffle.shuffle

_ROOT = Path(__file__).parents[2]


def run_rdd_doctests(side: str, folder: Path, *names: str) -> dict[str, Any]:
    local_dir = folder / side
    local_dir.mkdir()
    result = subprocess.run(
        [sys.executable, "-m", "tests.spark.rdd_doctests", side, str(local_dir), *names],
        cwd=_ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, result.stderr
    print(result.stdout)
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_examples_of_the_rdd_module_pass_as_with_stock(tmp_path: Path):
    ours = run_rdd_doctests("ferroshuffle", tmp_path)
    assert ours["examples"] > 300
    if ours["failed"]:  # then stock has to fail there, too
        names = {name.partition("[")[0] for name in ours["failed"]}
        assert run_rdd_doctests("stock", tmp_path, *names)["failed"] == ours["failed"]


@pytest.mark.parametrize(
    "example",
    [
        test
        for test in doctest.DocTestFinder().find(pyspark.shuffle, globs=vars(pyspark.shuffle))
        if test.examples
    ],
    ids=lambda test: test.name,
)
def test_the_examples_of_the_shuffle_module_pass_on_our_classes(
    example: doctest.DocTest,
):
    ours = doctest.DocTest(
        example.examples,
        dict(vars(ferroshuffle.shuffle)),
        example.name,
        example.filename,
        example.lineno,
        example.docstring,
    )
    report: list[str] = []
    outcome = doctest.DocTestRunner(verbose=False).run(ours, out=report.append)
    assert outcome.failed == 0, "".join(report)
    assert outcome.attempted == len(example.examples)
