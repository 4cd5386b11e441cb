"""What ties ferroshuffle to PySpark. Nothing here is imported unless `install` is called."""
