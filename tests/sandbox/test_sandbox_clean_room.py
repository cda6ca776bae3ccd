"""What a worker can see of the world: nothing of the grader's."""
from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sandbox_helpers import ECHO, HERE, PATIENCE, RUN, attempt, is_running, run

from autograder.sandbox import libc
from autograder.sandbox.client import ENVIRONMENT, Worker, Zygote

SECRET = "planted" + "-" + os.urandom(8).hex()  # lives in this process only, which is the grader's
os.environ["ETUDE_TEST_SECRET"] = SECRET

LOOK_EVERYWHERE = """
import gc, os, sys
needle = bytes(c ^ 1 for c in {codes})  # no text, and written in code: the search must not find itself
def holds(text): return needle in text.encode(errors="replace")
found = []
gc.unfreeze()  # what the zygote made is frozen, and frozen objects are not listed
for thing in gc.get_objects():
    if isinstance(thing, (dict, list, tuple, set)):
        items = [*thing.keys(), *thing.values()] if isinstance(thing, dict) else thing
        if any(holds(item) for item in items if type(item) is str): found.append(type(thing).__name__)
for module in list(sys.modules.values()):
    if any(holds(value) for value in list(vars(module).values()) if type(value) is str): found.append(module.__name__)
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
    source = "import os, sys; f = sys.flags; result = [dict(os.environ), sys.argv, os.getcwd(), [*f], sys.path]"
    with zygote.spawn(layers=frozenset()) as worker:
        environ, argv, folder, flags, path = run(worker, source)
    assert set(environ) - {"LC_CTYPE"} == set(ENVIRONMENT) and not any("ETUDE" in key for key in environ)
    assert folder == "/" and not {"", "/", os.getcwd()} & set(path)
    flag = dict(zip(sys.flags.__match_args__, flags, strict=False))
    assert flag["dont_write_bytecode"] == flag["no_user_site"] == 1
    assert flag["hash_randomization"] == 0  # a set of strings has the same order in every run
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
        "available", "canary", "holes", "hugepages", "landlock", "libc", "limits", "seal", "seccomp", "warmup")}


GRADER = """
import os, sys
from autograder.sandbox.client import Zygote
# Set after the start of this process, which would obey them itself.
for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE"): os.environ[name] = {folder!r}
os.environ.update(PYTHONSTARTUP={folder!r} + "/torch.py", LD_PRELOAD="/nonexistent.so", OMP_NUM_THREADS="7")
os.chdir({folder!r})
zygote = Zygote(serve={serve!r}, extra_path=[{here!r}])
worker = zygote.spawn()
kind, _ = worker.request(1, b"import torch; result = 1 / (torch.get_num_threads() == 1)", 60)
print(kind, zygote.label.name, zygote.pid, worker.pid, flush=True)
worker.request(1, b"while True: pass", 1000)
"""


def test_what_steers_python_is_ignored_and_a_killed_grader_leaves_no_process_behind(zygote: Zygote, tmp_path: Path):
    """Environment variables and files by which a caller or a folder could put code or settings into the zygote."""
    for name in ("sitecustomize.py", "usercustomize.py", "torch.py", "sandbox_echo.py", "random.py"):
        (tmp_path / name).write_text("import os; os._exit(44)\n")
    script = GRADER.format(folder=str(tmp_path), serve=ECHO, here=HERE)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as grader:
        assert grader.stdout is not None
        kind, label, *pids = grader.stdout.readline().split()
        grader.kill()
    assert (kind, label, len(pids)) == ("1", zygote.label.name, 2)
    end = time.monotonic() + PATIENCE
    while any(is_running(int(pid)) for pid in pids):
        assert time.monotonic() < end, "a process of the sandbox outlived its grader"
        time.sleep(0.02)


def test_an_import_that_is_not_available_says_what_is(worker: Worker):
    error = attempt(worker, "import pandas")
    assert error.startswith("ModuleNotFoundError: 'pandas' is not available in grading; available: einops etude numpy ")
    assert error.rstrip().endswith(" weakref")  # the whole list
    of_torch = attempt(worker, "import torch.nn.nothing")
    assert "'torch.nn.nothing' is not available in grading; of torch there are torch, torch.autograd, " in of_torch
    assert "torch.optim" in of_torch and "numpy" not in of_torch


@pytest.mark.parametrize("name", ["pandas", "torch.a_module_with_a_long_name", "numpy.nothing"])
def test_no_message_about_an_import_is_longer_than_a_report_shows(name: str):
    from autograder.remote.channel import MAX_TEXT
    from autograder.sandbox.available import AVAILABLE, Refuse
    with pytest.raises(ModuleNotFoundError) as error:
        Refuse([*AVAILABLE, "torch.optim", "torch_geometric"]).find_spec(name)
    assert len(str(error.value)) < MAX_TEXT


def test_the_compiler_is_named_when_it_is_missing():
    from autograder.sandbox.available import Refuse

    with pytest.raises(ModuleNotFoundError, match="optimizers, torch.func and torch.utils.checkpoint"):
        Refuse(["torch"]).find_spec("torch._dynamo")


def test_the_worker_knows_no_more_of_the_request_than_its_bytes(worker: Worker):
    assert worker.request(RUN, b"result = sorted(k for k in globals() if not k.startswith('__'))")[1].count(b"fd") == 1
