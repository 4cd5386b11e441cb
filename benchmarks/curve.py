"""Measure curves of time against the number of keys: `python benchmarks/curve.py` or `make bench`.

A sum by key, groups and a sort in Spark, from few keys to as many as there are records, on stock
and on ferroshuffle, with Spark's default memory limit and with a low one; and the same as a
DataFrame, whose memory is the JVM's. For each number of keys the sides run one after the other,
every run in a fresh process. One JSON file a curve and the picture of it go into the output folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import chart
from machine import machine, versions
from run import HERE, RunError, measure
from workloads import CURVE_KEYS, CURVE_LINES, CURVES, curve_row


def measure_curve(curve: str, records: int, repeat: int) -> dict[str, Any]:
    """Measure all the points of a curve and return the file about them."""
    lines: list[dict[str, Any]]
    lines = [{"side": side, "limit_mib": limit, "points": []} for side, limit in CURVE_LINES]
    loads = []
    for keys in CURVE_KEYS:
        if keys is not None and keys >= records:
            continue
        for line in lines:
            line["points"].append({"keys": keys or records, "seconds": []})
        for _ in range(repeat):
            measure_point(curve, keys, records, lines)
            loads.append(round(os.getloadavg()[0], 1))
    return {
        "operation": CURVES[curve][0],
        "timed": {line["side"]: curve_row(curve, None, line["side"], None).timed for line in lines},
        "records": records,
        "command": f"python benchmarks/curve.py --curves {curve} --records {records}"
        f" --repeat {repeat}",
        "machine": machine(),
        "versions": versions(),
        "load": max(loads),
        "lines": lines,
    }


def measure_point(curve: str, keys: int | None, records: int, lines: list[dict[str, Any]]) -> None:
    """Run one number of keys on every line once, and add its seconds to the line's last point."""
    answers = set()
    for line in lines:
        workload = curve_row(curve, keys, line["side"], line["limit_mib"])
        result = measure(workload, line["side"], records)
        print(f"{workload.name:<32} {result['seconds']:>7.3f} s", flush=True)
        line["points"][-1]["seconds"].append(result["seconds"])
        answers.add(result["answer"])
    if len(answers) > 1:
        raise RunError(f"{curve}, {keys or records} keys: the answers differ: {answers}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--curves", nargs="+", choices=tuple(CURVES), default=list(CURVES))
    parser.add_argument("--records", type=int, default=4_000_000, metavar="N")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs a point")
    parser.add_argument("--output", type=Path, default=HERE / "results", metavar="FOLDER")
    return parser.parse_args()


def main() -> int:
    """Measure and draw the curves; return 1 if a run failed, else 0."""
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.curves:
        try:
            curve = measure_curve(name, options.records, options.repeat)
        except RunError as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        file = options.output / f"curve-{name}.json"
        file.write_text(json.dumps(curve, indent=1) + "\n", encoding="utf-8")
        chart.write(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
