"""PySpark's daemon, whose workers refuse PySpark's own shuffle classes where a test asks for ours.

So a test that means to run ferroshuffle cannot pass on stock. Spark starts this module because
`spark.python.daemon.module` names it, once for each environment; its workers are forks of it.
"""

import gc
import os
from contextlib import suppress

from pyspark import shuffle
from pyspark.daemon import manager

with suppress(ImportError):  # a worker without site-packages has no pytest
    import pytest  # noqa: F401  the modules of tests import it

REFUSED = (
    "Aggregator",
    "ExternalMerger",
    "ExternalSorter",
    "ExternalGroupBy",
    "ExternalList",
    "GroupByKey",
    "get_used_memory",
)


def _refuse(name):
    def refuse(*args, **kwargs):
        raise AssertionError(f"the worker used pyspark.shuffle.{name}")

    return refuse


if os.environ.get("FERROSHUFFLE_TEST_REFUSES_STOCK"):
    for name in REFUSED:
        stock = getattr(shuffle, name)
        if isinstance(stock, type):
            stock.__init__ = _refuse(name)
        else:
            setattr(shuffle, name, _refuse(name))

if __name__ == "__main__":
    gc.freeze()  # a worker collects after each task: it need not walk over the modules again
    manager()
