"""PySpark's worker, except that its own shuffle classes raise where a test asks for ours.

So a test that means to run ferroshuffle cannot pass on stock. Spark starts this module because
`spark.python.worker.module` names it; its name has to begin with ``pyspark``.
"""

import os

from pyspark import shuffle
from pyspark.worker import main

__all__ = ["main"]

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
