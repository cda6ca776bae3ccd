"""What a worker can see of the world: nothing of the grader's."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_helpers import ECHO, HERE, RUN, attempt, run

from autograder.sandbox import libc
from autograder.sandbox.client import ENVIRONMENT, Worker, Zygote

SECRET = "planted" + "-" + os.urandom(8).hex()  # lives in this process only, which is the grader's
os.environ["ETUDE_TEST_SECRET"] = SECRET

LOOK_EVERYWHERE = """
import gc, os, sys
codes = {codes}  # in code: in plain text the search would find itself
def holds(text): return bytes(c ^ 1 for c in codes).decode() in text
found = []
gc.unfreeze()  # what the zygote made is frozen, and frozen objects are not listed
for thing in gc.get_objects():
    if isinstance(thing, (dict, list, tuple, set)):
        items = [*thing.keys(), *thing.values()] if isinstance(thing, dict) else thing
        if any(holds(item) for item in items if type(item) is str): found.append(type(thing).__name__)
for module in list(sys.modules.values()):
    if any(holds(value) for value in list(vars(module).values()) if isinstance(value, str)): found.append(module.__name__)
frame = sys._getframe()
while frame is not None:
    if any(holds(value) for value in frame.f_locals.values() if isinstance(value, str)): found.append("frame")
    frame = frame.f_back
if any(holds(key + value) for key, value in os.environ.items()): found.append("environ")
result = found
"""


def test_a_secret_of_the_grader_is_nowhere_in_a_worker(zygote: Zygote):
    look = LOOK_EVERYWHERE.format(codes=[byte ^ 1 for byte in SECRET.encode()])
    with zygote.spawn() as worker:
        assert run(worker, look) == []
        # Negative control: what is put into a worker's memory is found there.
        run(worker, f"import os, math; math.planted = os.environ['X'] = {SECRET!r}")
        assert {"math", "environ", "dict"} <= set(run(worker, look))


def test_environment_arguments_and_folder_are_clean(zygote: Zygote):
    source = "import os, sys; result = [dict(os.environ), sys.argv, os.getcwd(), sys.flags.dont_write_bytecode]"
    with zygote.spawn(layers=frozenset()) as worker:
        environ, argv, folder, no_bytecode = run(worker, source)
    assert set(environ) - {"LC_CTYPE"} == set(ENVIRONMENT) and not any("ETUDE" in key for key in environ)
    assert folder == "/" and no_bytecode == 1
    assert len(argv) == 1 and argv[0].endswith("zygote.py")


def test_only_null_and_the_one_socket_are_open(zygote: Zygote):
    if not libc.LINUX:
        pytest.skip("no /proc here")
    source = """
import os
result = {}
for fd in os.listdir("/proc/self/fd"):
    try: result[fd] = os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]
    except OSError: pass  # the listing's own
"""
    with zygote.spawn(layers=frozenset()) as worker:
        assert run(worker, source) == {"0": "/dev/null", "1": "/dev/null", "2": "/dev/null", "3": "socket"}


def test_the_graders_code_is_not_in_the_zygote(zygote: Zygote):
    """What a worker holds of this package is the sandbox's own untrusted half."""
    with zygote.spawn() as worker:
        modules = set(run(worker, "import sys; result = [m for m in sys.modules if m.startswith('autograder')]"))
    assert modules == {"autograder", "autograder.sandbox"} | {f"autograder.sandbox.{name}" for name in (
        "available", "canary", "hugepages", "landlock", "libc", "limits", "seal", "seccomp", "warmup")}


def test_variables_and_files_that_steer_python_are_ignored(tmp_path: Path):
    """Everything by which a folder or the caller's environment could put code or settings into a Python process."""
    for name in ("sitecustomize.py", "usercustomize.py", "torch.py", "conftest.py", "sandbox_echo.py", "random.py"):
        (tmp_path / name).write_text("import os; os._exit(44)\n")
    script = (
        "import os, sys; from autograder.sandbox.client import Zygote\n"
        # After the start of this process, which would obey them itself.
        f"for name in ('PYTHONPATH', 'PYTHONHOME', 'PYTHONUSERBASE'): os.environ[name] = {str(tmp_path)!r}\n"
        f"os.environ['PYTHONSTARTUP'] = {str(tmp_path / 'torch.py')!r}\n"
        "os.environ.update(LD_PRELOAD='/nonexistent.so', OMP_NUM_THREADS='7', PYTHONHASHSEED='3')\n"
        f"os.chdir({str(tmp_path)!r})\n"
        f"with Zygote(serve={ECHO!r}, extra_path=[{HERE!r}]) as zygote, zygote.spawn() as worker:\n"
        "    print(worker.request(1, b'import torch; result = torch.get_num_threads()', 60)[0], zygote.label.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stdout.split()[:1] == ["1"], done.stderr


def test_an_import_that_is_not_available_says_what_is(worker: Worker):
    error = attempt(worker, "import pandas")
    assert error.startswith("ModuleNotFoundError: 'pandas' is not available in grading; available: abc, ")
    assert "numpy, " in error and "torch.optim" in error
    assert "'torch.nn.nothing' is not available" in attempt(worker, "import torch.nn.nothing")


def test_the_compiler_is_named_when_it_is_missing():
    from autograder.sandbox.available import Refuse

    with pytest.raises(ModuleNotFoundError, match="optimizers, torch.func and torch.utils.checkpoint"):
        Refuse(["torch"]).find_spec("torch._dynamo")


def test_the_worker_knows_no_more_of_the_request_than_its_bytes(worker: Worker):
    assert worker.request(RUN, b"result = sorted(k for k in globals() if not k.startswith('__'))")[1].count(b"fd") == 1
