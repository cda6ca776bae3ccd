"""Atomic writes: whole or not at all, whatever interrupts them."""
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from autograder import files
from autograder.files import write_atomically


def raising(error):
    def fail(*_):
        raise error
    return fail


@pytest.mark.parametrize(("call", "error"), [("fsync", OSError("disk full")), ("replace", KeyboardInterrupt())])
def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, call, error):
    path = tmp_path / "folder" / "report.json"
    write_atomically(path, "old")
    monkeypatch.setattr(files.os, call, raising(error))
    with pytest.raises(type(error)):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_files_for_staff_are_not_for_everybody(tmp_path):
    write_atomically(tmp_path / "public", "x")
    write_atomically(tmp_path / "staff", "x", staff_only=True)
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) & 0o004
    assert not stat.S_IMODE((tmp_path / "staff").stat().st_mode) & 0o007


WRITE_FOR_EVER = """
import sys; from pathlib import Path; from autograder.files import write_atomically
for count in range(10**9): write_atomically(Path(sys.argv[1]), str(count % 10) * 300_000)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "report.json"
    for delay in (0.0, 0.013, 0.029):
        writer = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)])
        deadline = time.monotonic() + 10
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        text = path.read_text()
        assert len(text) == 300_000 and len(set(text)) == 1
        path.unlink()
