"""`pyspark.shuffle` in Rust: aggregate, group and sort key/value records that spill to disk.

`install` makes PySpark's key-value operations use it; `ferroshuffle.shuffle` holds the classes and
needs no PySpark. Importing this package changes nothing in PySpark, and imports neither PySpark
nor numpy: every PySpark worker pays for this import.
"""

from ferroshuffle._core import CorruptBlockError, __version__

# Type checkers take it for true; importing it from `typing` would be most of this import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ferroshuffle.spark.explain import Explanation
    from ferroshuffle.spark.stats import Statistics

__all__ = [
    "CorruptBlockError",
    "__version__",
    "explain",
    "install",
    "is_installed",
    "stats",
    "uninstall",
]


def install() -> None:
    """
    Make PySpark in this process use ferroshuffle for its key-value operations.

    Call it on the driver, before or after the ``SparkContext`` is made. The workers need nothing
    but an installed ferroshuffle, which they import when a job asks for it. A second call does
    nothing.

    Raises
    ------
    ImportError
        If PySpark, or the part of it that has RDDs, is not installed.

    Warns
    -----
    UserWarning
        If ferroshuffle was not tried with this version of PySpark.

    See Also
    --------
    uninstall
    is_installed

    Examples
    --------
    >>> import ferroshuffle
    >>> ferroshuffle.install()
    >>> ferroshuffle.is_installed()
    True
    >>> ferroshuffle.uninstall()
    """
    from ferroshuffle.spark import install as switch

    switch.install()


def uninstall() -> None:
    """
    Give PySpark in this process its own classes back.

    RDDs made while ferroshuffle was installed stay usable. Without a preceding `install` it does
    nothing.
    """
    from ferroshuffle.spark import install as switch

    switch.uninstall()


def is_installed() -> bool:
    """Tell whether PySpark in this process uses ferroshuffle."""
    from ferroshuffle.spark import install as switch

    return switch.is_installed()


def explain(rdd: object) -> "Explanation":
    """
    Tell of the shuffles that an RDD needs, without running a job.

    There is a line for each shuffle by key that was asked for since `install`, those first that run
    first: which operation it is, where it was called, and what its functions are recognised as, or
    why they are not. What is recognised is computed over columns, as long as the records have types
    that columns take; otherwise the functions are called for each record.

    Parameters
    ----------
    rdd : pyspark.RDD
        Shuffles behind a checkpoint that has been written are left out.

    Returns
    -------
    Explanation
        Printed, it is a table, as HTML in a notebook; `to_dict` gives the same as dicts and lists.

    Raises
    ------
    TypeError
        If `rdd` is no RDD.

    Notes
    -----
    What ``print(ferroshuffle.explain(rdd))`` shows::

        operation    partitions  recognised as                         call site
        -----------  ----------  ------------------------------------  ---------
        reduceByKey  8           sum of value                          app.py:12
        groupByKey   8           list of value                         app.py:15
        sortByKey    8           order of key                          app.py:17
        partitionBy  8           no: records are moved and not merged  app.py:19
    """
    from ferroshuffle.spark.explain import explain

    return explain(rdd)


def stats(context: object) -> "Statistics":
    """
    Tell of the shuffles that have run in a context: what became of their records, and the time.

    There is a line for each of the newest 1,000 shuffles by key that were asked for since
    `install`, if a job has run it, or a part of it. Workers count, and Spark's accumulators bring
    the counts here when a task has succeeded; a task that is run twice counts twice.

    Parameters
    ----------
    context : pyspark.SparkContext

    Returns
    -------
    Statistics
        Printed, it is a table, as HTML in a notebook; `to_dict` gives the same as dicts and lists,
        and `shuffles` as objects whose attributes say what they are. Times are sums over the tasks,
        in seconds; where functions are called for each record, one in 64 calls is timed.

    Raises
    ------
    TypeError
        If `context` is no ``SparkContext``.

    Notes
    -----
    Records that are not said to be ``called`` or ``pickled`` were merged over columns, and sent in
    columns. What sorts and partitions with columns switched off
    (``spark.ferroshuffle.enabled=false``) read is not counted.
    """
    from ferroshuffle.spark.stats import stats

    return stats(context)
