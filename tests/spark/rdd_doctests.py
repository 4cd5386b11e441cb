"""
Run the docstring examples of PySpark's RDD module as PySpark does, and print what failed.

``python -m tests.spark.rdd_doctests stock|ferroshuffle LOCAL_DIR [NAME …]`` runs those of the named
docstrings, or all, and ends with a JSON object: the number of examples, and the names of those that
failed as ``docstring[number]``.

It is a program of its own since the examples hash strings on the driver, which PySpark allows only
where PYTHONHASHSEED was set when Python started.
"""

from __future__ import annotations

import doctest
import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy

import ferroshuffle

from . import sessions


class Runner(doctest.DocTestRunner):
    """Collects the names of failed examples."""

    def __init__(self) -> None:
        super().__init__(verbose=False, optionflags=doctest.ELLIPSIS)
        self.failed: list[str] = []

    def report_failure(self, out: Any, test: Any, example: Any, got: str) -> None:
        super().report_failure(out, test, example, got)
        self._note(test, example)

    def report_unexpected_exception(self, out: Any, test: Any, example: Any, exc_info: Any) -> None:
        super().report_unexpected_exception(out, test, example, exc_info)
        self._note(test, example)

    def _note(self, test: doctest.DocTest, example: doctest.Example) -> None:
        self.failed.append(f"{test.name}[{test.examples.index(example)}]")


def main(side: str, local_dir: Path, names: list[str]) -> None:
    numpy.set_printoptions(legacy="1.25")  # the examples show its scalars as they were then
    module = importlib.import_module("pyspark.rdd")
    # Found before install: a finder passes over what is not defined in the module.
    tests = doctest.DocTestFinder().find(module)
    runner = Runner()
    examples = 0
    with (
        sessions.spark_context("local[4]", local_dir, {}) as sc,
        tempfile.TemporaryDirectory(dir=local_dir) as checkpoints,
    ):
        sc.setCheckpointDir(checkpoints)
        if side == "ferroshuffle":
            sessions.refuse_stock(sc)
            ferroshuffle.install()
        for test in tests:
            if not names or test.name in names:
                test.globs = {**vars(module), "sc": sc}
                examples += len(test.examples)
                runner.run(test)
    print(json.dumps({"examples": examples, "failed": runner.failed}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
