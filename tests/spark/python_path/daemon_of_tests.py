"""PySpark's daemon, whose workers refuse PySpark's own shuffle classes where a test asks for ours.

So a test that means to run ferroshuffle cannot pass on stock. Spark starts this module because
`spark.python.daemon.module` names it, once for each environment; its workers are forks of it.
"""

import os

from pyspark import shuffle
from pyspark.daemon import manager

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
    manager()
