"""What can happen to a worker. All of it is the submission's doing, so none of it is an `AutograderError`."""
from __future__ import annotations


class WorkerFailure(Exception):
    """The worker gave no reply. It has been killed and reaped by the time this is raised; spawn another."""


class WorkerTimeout(WorkerFailure):
    """No whole reply before the deadline."""


class WorkerOutOfMemory(WorkerFailure):
    """The worker's resident memory passed its limit."""


class WorkerProtocolError(WorkerFailure):
    """Bytes that are not one well-formed reply: forged, oversized, or more than one."""


class WorkerDied(WorkerFailure):
    """The process ended. `reason` says why in plain language, fit to be shown to a student."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason
