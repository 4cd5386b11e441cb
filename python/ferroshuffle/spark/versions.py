"""Which versions of PySpark ferroshuffle was tried with."""

import warnings

TRIED = ("3.5", "4.0", "4.1", "4.2", "4.3")


def warn_if_untried(version: str, stacklevel: int) -> None:
    """
    Warn if nobody tried ferroshuffle with this version of PySpark.

    Parameters
    ----------
    version : str
        PySpark's ``__version__``, such as ``"4.3.0"``
    stacklevel : int
        which caller the warning names, as in `warnings.warn`; 1 is the caller of this function
    """
    if ".".join(version.split(".")[:2]) in TRIED:
        return
    warnings.warn(
        f"ferroshuffle was not tried with PySpark {version}, only with {', '.join(TRIED)}; "
        "ferroshuffle.uninstall() goes back to PySpark's own classes",
        UserWarning,
        stacklevel=stacklevel + 1,
    )
