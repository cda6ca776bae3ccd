"""The usual design, for comparison: pytest in the process that the submission is imported into.

    python -m tests.attacks.usual

One line of JSON in, `{"source": ..., "style": ..., "runner": ...}`, one line out. Every order is carried out in a fork,
so that what the submission does to the process ends with it.
"""
from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from .prelude import NUMBERS, PRELUDE

SECRET_VARIABLE = "ETUDE_PLANTED"
PATIENCE, GRACE = 120.0, 0.3
_TESTS = '''
import os, pathlib, torch
SECRET = "{secret}"
pathlib.Path("started").touch()
def ref(x): return 2 * x + 1
from submission import f
def test_some():
    x = torch.tensor([1.0, 2.0, 3.5])
    {assertion}
def test_more():
    x = torch.tensor([-1.0, 4.0, 0.25])
    {assertion}
'''
STYLES = {
    "assert_close": "torch.testing.assert_close(f(x), ref(x))",
    "allclose": "assert torch.allclose(f(x), ref(x))",
    "not greater": "assert not ((f(x) - ref(x)).abs() > 1e-6).any()",
    "relative": "got = f(x); assert ((got - ref(x)).abs() <= 1e-6 * got.abs()).all()",
    "unpickled": "import pickle; torch.testing.assert_close(pickle.loads(pickle.dumps(f(x))), ref(x))",
}
_SCRIPT = "import test_hidden\ntest_hidden.test_some()\ntest_hidden.test_more()\n"


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Grade one submission in the usual way, in a fork; says how the fork ended."""
    folder = Path(tempfile.mkdtemp(prefix="usual-"))
    try:
        drop = folder / "drop"
        context = {"drop": str(drop), "nr": NUMBERS, "promise": 1 << 27, "name": "usual", "usual": True}
        (folder / "submission.py").write_text(f"CTX = {context!r}\n{PRELUDE}\n{order['source']}")
        tests = _TESTS.format(secret=os.environ[SECRET_VARIABLE], assertion=STYLES[order["style"]])
        (folder / "test_hidden.py").write_text(tests)
        for name, text in order.get("files", {}).items():
            (folder / name).write_text(text)
        pid = os.fork()
        if pid == 0:
            return _grade(folder, order["runner"])
        ended = _wait(pid, folder / "started", order["patient"], order.get("terminate", False))
        output = (folder / "output").read_bytes() if (folder / "output").exists() else b""
        return {**ended, "output_bytes": len(output), "dropped": drop.exists(),
                "leaked": os.environ[SECRET_VARIABLE].encode() in output, "believed": _last_verdict(output)}
    finally:
        if os.getpid() == SERVER:
            shutil.rmtree(folder, ignore_errors=True)


def _grade(folder: Path, runner: str) -> Any:
    """In the fork: never returns to the server's loop, but ends as a grader ends, with its hooks at exit."""
    os.chdir(folder)
    output = os.open("output", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.path.insert(0, str(folder))
    if runner == "script":
        code = _script()
    else:
        code = int(pytest.main(["-s", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]))
    # As at the end of an interpreter, without its second of tidying up after PyTorch.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


def _script() -> int:
    try:
        exec(compile(_SCRIPT, "grade.py", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        return 1
    return 0


def _wait(pid: int, started: Path, patient: bool, terminate: bool) -> dict[str, Any]:
    """Wait for the fork; if it is not `patient`, only a moment longer than until the submission runs."""
    end, terminated = time.monotonic() + PATIENCE, False
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return {"hung": False, "exit": os.waitstatus_to_exitcode(status)}
        if started.exists() and not patient:
            patient, end = True, time.monotonic() + GRACE
        if terminate and started.exists() and not terminated and time.monotonic() > end - GRACE / 2:
            os.kill(pid, signal.SIGTERM)
            terminated = True
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return {"hung": True, "exit": None}


def _last_verdict(output: bytes) -> bool:
    """What a grader reads that takes the last JSON object on standard output for the results."""
    found = re.findall(rb"\{.*?\}", output)
    try:
        return bool(found) and json.loads(found[-1]).get("passed") is True
    except ValueError:
        return False


SERVER = os.getpid()


def _warm_up() -> None:
    """Load what pytest loads, so that a fork starts at once."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as null, redirect_stdout(null):
        Path(folder, "test_one.py").write_text("def test_one(): assert True\n")
        pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", folder, folder])


def main() -> None:
    _warm_up()
    torch.set_num_threads(1)
    numpy.ones(1)
    torch.testing.assert_close(torch.ones(1), torch.ones(1))
    secret = tempfile.TemporaryFile()
    secret.write(os.environ[SECRET_VARIABLE].encode())
    secret.flush()
    os.set_inheritable(secret.fileno(), True)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
