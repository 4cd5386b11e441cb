"""One measured run in a process of its own: `python benchmarks/measure.py ROW SIDE RECORDS`.

Prints the result as one line of JSON, the last line of its output. `run.py` calls it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from measured import Run
from workloads import select


def main() -> None:
    """Run one row on one side."""
    name, side, records = sys.argv[1:]
    (workload,) = select(name)
    run = Run(side, int(records), workload.limit)
    if workload.is_called and side == "ours":
        vars(run.shuffle)["_records_before_typed"] = None
    run.result.answer = workload.function(run)
    print(json.dumps(asdict(run.result)), flush=True)


if __name__ == "__main__":
    main()
