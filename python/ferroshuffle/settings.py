"""Settings of Spark that are ferroshuffle's: their names start with ``spark.ferroshuffle.``."""

import sys


def is_enabled() -> bool:
    """Return whether Spark, where it runs here, has `spark.ferroshuffle.enabled`, as by default."""
    pyspark = sys.modules.get("pyspark")
    context = pyspark and pyspark.SparkContext._active_spark_context
    if not context:
        return True
    # Not by getConf(), which asks the JVM for every setting there is.
    setting: str = context._conf.get("spark.ferroshuffle.enabled", "true")
    return setting.strip().lower() != "false"
