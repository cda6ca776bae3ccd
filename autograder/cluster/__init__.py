"""Grading on the machines of a dask.distributed cluster. Only these modules import dask, when they are used."""
