"""Clusters of real processes, started by dask's own commands, and what is handed in to them."""
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tiny_course import handed_in, notebook_of

HERE = Path(__file__).parent
START_SECONDS = 90.0
KINDS = ({}, {"scale": "def scale(x, factor):\n    return x + factor"},
         {"center": "def center(x):\n    raise ValueError('no idea')"},
         {"scale": "import os\ndef scale(x, factor):\n    os._exit(0)"})
"""Cells of students, who hand them in by turns."""


def hand_in(students: Sequence[str], folder: Path = Path()) -> None:
    for number, student in enumerate(students):
        path = folder / "class" / student / "tiny" / "tiny.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(notebook_of(handed_in(student, **KINDS[number % len(KINDS)])))


class Cluster:
    """A scheduler and workers; `prefix` is put before their commands."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.notes = folder / "notes"
        self.notes.mkdir()
        self._running: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def start(self, workers: int = 2, host: str = "127.0.0.1", prefix: Sequence[str] = (), tls: bool = False,
              **environment: str) -> str:
        port = _free_port()
        self.address = f"{'tls' if tls else 'tcp'}://{host}:{port}"
        # Two lost workers are enough to doubt a chunk; each one more takes seconds to start.
        self._run([*prefix, "dask", "scheduler", "--host", host, "--port", str(port), "--no-dashboard",
                   *(["--protocol", "tls"] if tls else [])],
                  environment | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}, "Scheduler at")
        if workers:
            self.add(workers, prefix=prefix, **environment)
        return self.address

    def add(self, workers: int = 1, *options: str, prefix: Sequence[str] = (), **environment: str) -> None:
        self._run([*prefix, "dask", "worker", self.address, "--nworkers", str(workers), "--nthreads", "1",
                   "--no-dashboard", "--local-directory", str(self.folder / "scratch"),
                   "--preload", str(HERE / "faulty_worker.py"), *options],
                  environment | {"ETUDE_TEST_NOTES": str(self.notes)}, "Registered to")

    def _run(self, command: list[str], environment: dict[str, str], until: str) -> None:
        log = self.folder / f"log{len(self._running)}"
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        with open(log, "wb") as file:
            self._running.append(subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
                env={**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}))
        deadline = time.monotonic() + START_SECONDS
        while until not in log.read_text(errors="replace"):
            assert self._running[-1].poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.1)

    def noted(self, name: str) -> list[str]:
        with suppress(FileNotFoundError):
            return (self.notes / name).read_text().splitlines()
        return []

    def stop(self) -> None:
        for process in reversed(self._running):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._running.clear()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def whole(out: str) -> dict[str, Any]:
    """Every report of a folder in full, but for its timings."""
    found = {}
    for path in sorted(Path(out).glob("*/tiny.json")):
        fields = json.loads(path.read_bytes())
        del fields["provenance"]["timings"]
        found[path.parent.name] = json.dumps(fields)
    return found
