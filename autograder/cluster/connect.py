"""The way to a cluster: a scheduler that runs somewhere, or workers that SLURM starts for this run."""
from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Any

from autograder.errors import UsageError

SLURM = "slurm"
CONNECT_SECONDS = 30
WORKER_SECONDS = 60
"""How long a scheduler that is there may be without workers."""
QUEUE_SECONDS = 24 * 3600
"""How long jobs may wait in SLURM's queue."""
_EXTRA = "--cluster needs dask: install etude with its extra `cluster` (`pip install -e .[cluster]`)"


@contextmanager
def connected(cluster: str, workers: int) -> Iterator[Any]:
    """A `distributed.Client` with at least one worker. `workers`: how many jobs to ask SLURM for."""
    try:
        import distributed
    except ImportError:
        raise UsageError(_EXTRA) from None
    _quiet()
    if cluster == SLURM:
        with _slurm(workers) as started, distributed.Client(started) as client:
            yield _ready(client, "SLURM", QUEUE_SECONDS)
        return
    _warn(cluster)
    try:
        client = distributed.Client(cluster, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise UsageError(f"--cluster {cluster}: no scheduler answers there: {_brief(error)}. Expected the address that "
                         "`dask scheduler` prints, as tcp://host:8786 or tls://host:8786, or `slurm`") from None
    with client:
        yield _ready(client, cluster, WORKER_SECONDS)


def _ready(client: Any, name: str, seconds: float) -> Any:
    try:
        client.wait_for_workers(1, timeout=seconds)
    except TimeoutError:
        raise UsageError(f"--cluster {name}: no worker has come within {seconds:.0f} s; start some with "
                         "`dask worker ADDRESS --nthreads 1 --nworkers N`") from None
    return client


@contextmanager
def _slurm(workers: int) -> Iterator[Any]:
    try:
        from dask_jobqueue import SLURMCluster
        from distributed import Security
    except ImportError:
        raise UsageError(_EXTRA) from None
    security = Security()  # what dask's configuration says; dask-jobqueue alone does not look there
    try:
        cluster = SLURMCluster(security=security if security.tls_ca_file else None)
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(f"--cluster slurm: {_brief(error)}. The jobs are described under `jobqueue: slurm:` in "
                         "~/.config/dask/jobqueue.yaml; docs/cluster.md has an example") from None
    with cluster:
        try:
            cluster.scale(jobs=workers)
        except (OSError, RuntimeError) as error:
            raise UsageError(f"--cluster slurm: jobs cannot be submitted: {_brief(error)}") from None
        _warn(cluster.scheduler_address)
        yield cluster


def _quiet() -> None:
    """What is lost is told by us, in one line; dask's configuration gives some loggers a level of their own."""
    for name in ("distributed", "tornado", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _warn(address: str) -> None:
    """Say so where the seed and the reports would travel for all to read."""
    scheme, _, rest = address.rpartition("://")
    host = rest.rpartition(":")[0].strip("[]")
    with suppress(ValueError):
        if ip_address(host).is_loopback:
            return
    if scheme not in ("tls", "wss") and host != "localhost":
        print(f"autograder: {address} is neither encrypted nor authenticated: who reaches the scheduler can run code "
              "on its workers and read the seed. docs/cluster.md says how to use tls://", file=sys.stderr)


def _brief(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
