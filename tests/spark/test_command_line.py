"""`python -m ferroshuffle app.py args…` runs a program as Python would, with ferroshuffle on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ferroshuffle

REPORT = """
import json, sys
import ferroshuffle
if __name__ == "__main__":
    print(json.dumps({
        "argv": sys.argv,
        "path": sys.path[0],
        "file": __file__,
        "installed": ferroshuffle.is_installed(),
        "main": vars(sys.modules["__main__"]) is globals(),
    }))
"""

# What the job needs lives in the script itself: a function, a class and a global.
SPARK_PROGRAM = """
import sys
from pyspark import SparkConf, SparkContext
import ferroshuffle.shuffle
import pyspark.shuffle

OFFSET = int(sys.argv[1])


class Total:
    def __init__(self, value):
        self.value = value

    def plus(self, other):
        return Total(self.value + other.value)


def shifted(n):
    return Total(n + OFFSET)


def main():
    assert pyspark.shuffle.ExternalMerger is ferroshuffle.shuffle.ExternalMerger
    conf = SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false")
    conf.set("spark.driver.bindAddress", "127.0.0.1").set("spark.local.dir", sys.argv[2])
    sc = SparkContext(conf=conf)
    pairs = sc.parallelize(range(1000), 2).map(lambda n: (n % 3, shifted(n)))
    totals = pairs.reduceByKey(lambda a, b: a.plus(b))
    print(sorted((k, type(t).__name__, t.value) for k, t in totals.collect()))
    sc.stop()


if __name__ == "__main__":
    main()
"""


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ferroshuffle", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "programs" / "app.py"
    path.parent.mkdir()
    path.write_text(REPORT)
    return path


def test_a_script_runs_as_main_with_its_own_arguments(script, tmp_path):
    result = run("programs/app.py", "--version", "-m", "x y", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "argv": ["programs/app.py", "--version", "-m", "x y"],
        "path": str(script.parent),
        "file": "programs/app.py",
        "installed": True,
        "main": True,
    }


def test_a_module_runs_as_main_with_its_own_arguments(script, tmp_path):
    result = run("-m", "programs.app", "-h", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "argv": [str(script), "-h"],
        "path": str(tmp_path),
        "file": str(script),
        "installed": True,
        "main": True,
    }


def test_the_exit_code_is_that_of_the_script(script, tmp_path):
    script.write_text("raise SystemExit(7)")
    assert run(script, cwd=tmp_path).returncode == 7


def test_an_exception_in_the_script_shows_its_line(script, tmp_path):
    script.write_text("\nraise ValueError('of the script')\n")
    result = run(script, cwd=tmp_path)
    assert result.returncode == 1
    assert f'File "{script}", line 2' in result.stderr
    assert result.stderr.endswith("ValueError: of the script\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "no program given"),
        (["missing.py"], "can't open file 'missing.py'"),
        (["--fast", "app.py"], "--fast"),
        (["-m"], "-m"),
    ],
)
def test_a_wrong_command_line_is_explained_on_stderr(tmp_path, arguments, problem):
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert problem in result.stderr.splitlines()[0]
    assert "usage: python -m ferroshuffle" in result.stderr


def test_version_and_help(tmp_path):
    assert run("--version", cwd=tmp_path).stdout == f"ferroshuffle {ferroshuffle.__version__}\n"
    assert run("--help", cwd=tmp_path).stdout.startswith("usage: python -m ferroshuffle")
    assert run("-h", cwd=tmp_path).returncode == 0


def test_without_pyspark_it_names_the_remedy(script, tmp_path):
    (tmp_path / "pyspark.py").write_text("raise ImportError('no PySpark here')")
    result = run(script, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("ferroshuffle: ")
    assert "pip install pyspark" in result.stderr


def test_a_real_job_finds_the_functions_and_classes_of_the_script(script, tmp_path):
    script.write_text(SPARK_PROGRAM)
    result = run(script, "10", tmp_path / "local", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    sums = [(k, "Total", sum(n + 10 for n in range(k, 1000, 3))) for k in range(3)]
    assert result.stdout == f"{sums}\n"
