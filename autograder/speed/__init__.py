"""Timing kernels with a clock that the timed code cannot reach; see docs/speed.md.

`statistics` and `session` judge figures and know no process; `memory`, `worker`, `process` and `timing` make the
figures; `bench` brings both together for a submission, and `settle` writes the result into a stored report.
"""
