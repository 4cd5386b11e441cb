"""Measure ferroshuffle against stock PySpark: `python benchmarks/run.py` or `make bench`.

Each row of the table runs on the baseline and on ours by turns (A B A B …), each run in a fresh
process, so that neither memory nor allocator state is inherited. A ratio is the baseline's seconds
over ours of one such turn; a row's ratio is their median. One JSON file a row goes into the output
folder, and `table.md` is made from all the JSON files there.

With `--sides stock` or `--sides ours` one side runs alone; its seconds are printed, and no file is
written.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import report
from machine import machine, versions
from workloads import WORKLOADS, Workload, select

HERE = Path(__file__).resolve().parent

# Spilling to disk on a slow machine takes stock minutes; longer than this is a hang.
RUN_TIMEOUT_SECONDS = 1800


class RunError(Exception):
    """A measured process ended badly, or the two sides disagree."""


def environment(local_dir: str) -> dict[str, str]:
    """Return the environment of a measured process, the same for both sides."""
    variables = dict(os.environ)
    variables.setdefault("PYSPARK_PYTHON", sys.executable)
    variables["SPARK_LOCAL_DIRS"] = local_dir
    variables["SPARK_LOCAL_IP"] = "127.0.0.1"
    # As Spark sets it in its workers; makes hashes of text the same in every run.
    variables["PYTHONHASHSEED"] = "0"
    # Without bytecode files an import would measure the compiler.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables


def measure(workload: Workload, side: str, records: int) -> dict[str, Any]:
    """Run one row on one side in a fresh process and return what it found."""
    with tempfile.TemporaryDirectory(prefix="ferroshuffle-bench-") as local_dir:
        command = [sys.executable, str(HERE / "measure.py"), workload.name, side, str(records)]
        try:
            process = subprocess.run(
                command,
                env=environment(local_dir),
                capture_output=True,
                text=True,
                timeout=RUN_TIMEOUT_SECONDS,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            raise RunError(f"{workload.name} on {side} failed:\n{error.stderr[-4000:]}") from error
        except subprocess.TimeoutExpired as error:
            raise RunError(f"{workload.name} on {side} was still running: {error}") from error
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def measure_by_turns(workload: Workload, records: int, repeat: int) -> dict[str, Any]:
    """Run one row on both sides by turns and return its results file."""
    turns = []
    for turn in range(1, repeat + 1):
        print(f"{workload.name} {turn}/{repeat}", end="", flush=True)
        baseline = measure(workload, workload.baseline, records)
        print(f"  {workload.baseline} {baseline['seconds']:.3f} s", end="", flush=True)
        ours = measure(workload, "ours", records)
        ratio = baseline["seconds"] / ours["seconds"]
        print(f"  ours {ours['seconds']:.3f} s  {ratio:.2f}x", flush=True)
        if ours["answer"] != baseline["answer"]:
            raise RunError(f"{workload.name}: {baseline['answer']} is not {ours['answer']}")
        load = round(os.getloadavg()[0], 1)
        turns.append({"baseline": baseline, "ours": ours, "ratio": ratio, "load": load})
    return {
        "row": workload.name,
        "work": workload.work,
        "timed": workload.timed,
        "baseline": workload.baseline,
        "target": workload.target,
        "limit_mib": workload.limit,
        "most_held": workload.most_held,
        "records": records,
        "command": f"python benchmarks/run.py --rows {workload.name}"
        f" --records {records} --repeat {repeat}",
        "machine": machine(),
        "versions": versions(),
        "turns": turns,
    }


def measure_one_side(workload: Workload, side: str, records: int) -> None:
    """Run one row on one side alone and print what it found."""
    side = workload.baseline if side == "stock" else side
    result = measure(workload, side, records)
    print(
        f"{workload.name:<24} {side:<8} {result['seconds']:>9.3f} s"
        f"  peak RSS {report.mib(result['peak_rss']):>8}"
        f"  spilled {report.mib(result['disk_spilled']):>8}",
        flush=True,
    )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--rows", default="", metavar="NAME", help="the row NAME, or else those containing NAME"
    )
    parser.add_argument("--records", type=int, default=4_000_000, metavar="N")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="turns a row")
    parser.add_argument("--output", type=Path, default=HERE / "results", metavar="FOLDER")
    parser.add_argument("--sides", choices=("both", "stock", "ours"), default="both")
    parser.add_argument("--list", action="store_true", help="list the rows and stop")
    return parser.parse_args()


def main() -> int:
    """Measure the rows asked for; return 1 if one failed, else 0."""
    options = arguments()
    rows = select(options.rows)
    if options.list or not rows:
        for workload in rows or WORKLOADS:
            limit = f", limit {workload.limit} MiB" if workload.limit else ""
            print(f"{workload.name:<24} {workload.work}{limit}")
    if not rows:
        print(f"no row is called {options.rows}; those above are all", file=sys.stderr)
        return 1
    if options.list:
        return 0

    failed = False
    for workload in rows:
        try:
            if options.sides != "both":
                measure_one_side(workload, options.sides, options.records)
                continue
            results = measure_by_turns(workload, options.records, options.repeat)
        except RunError as error:
            print(f"\n{error}", file=sys.stderr)
            failed = True
            continue
        options.output.mkdir(parents=True, exist_ok=True)
        file = options.output / f"{workload.name}.json"
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        report.write(options.output)
    if options.sides == "both" and not failed:
        print((options.output / report.TABLE).read_text(encoding="utf-8"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
