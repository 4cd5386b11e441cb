"""
Run a PySpark program with ferroshuffle installed: ``python -m ferroshuffle app.py args…``.

The program runs as ``__main__`` and sees ``sys.argv`` and ``sys.path`` as plain Python sets them.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import NoReturn

import ferroshuffle

USAGE = """\
usage: python -m ferroshuffle app.py [arg ...]
       python -m ferroshuffle -m module [arg ...]
       python -m ferroshuffle --help | --version

Runs a PySpark program with ferroshuffle in place of pyspark.shuffle.
"""


def main(arguments: list[str]) -> None:
    """Run the program that the command line names."""
    match arguments:
        case ["-h" | "--help", *_]:
            print(USAGE, end="")
        case ["--version", *_]:
            print(f"ferroshuffle {ferroshuffle.__version__}")
        case ["-m", module, *_]:
            _install()
            sys.argv = arguments[1:]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case [script, *_] if not script.startswith("-"):
            if not os.path.exists(script):
                _fail_usage(f"can't open file {script!r}: no such file")
            _install()
            sys.argv = arguments
            _put_first_on_path(os.path.dirname(os.path.realpath(script)))
            runpy.run_path(script, run_name="__main__")
        case [option, *_]:
            _fail_usage(f"unknown option or missing argument: {option}")
        case _:
            _fail_usage("no program given")


def _install() -> None:
    try:
        ferroshuffle.install()
    except ImportError as error:
        sys.exit(f"ferroshuffle: {error}")


def _put_first_on_path(folder: str) -> None:
    """Do what Python does for a script: its folder stands where ``-m`` has put the current one."""
    if sys.flags.isolated or getattr(sys.flags, "safe_path", False):  # -I, and -P of Python 3.11
        return
    sys.path[0] = folder


def _fail_usage(problem: str) -> NoReturn:
    print(f"ferroshuffle: {problem}\n{USAGE}", end="", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
