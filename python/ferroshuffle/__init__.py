"""`pyspark.shuffle` in Rust: aggregate, group and sort key/value records that spill to disk.

`install` makes PySpark's key-value operations use it; `ferroshuffle.shuffle` holds the classes and
needs no PySpark. Importing this package changes nothing in PySpark, and imports neither PySpark
nor numpy: every PySpark worker pays for this import.
"""

from ferroshuffle._core import CorruptBlockError, __version__

__all__ = ["CorruptBlockError", "__version__", "install", "is_installed", "uninstall"]


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
