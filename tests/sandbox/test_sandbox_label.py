"""The label says what was observed; where the seal does not hold it says so, and workers still work."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest
from sandbox_helpers import ECHO, HERE, run

from autograder.sandbox import seccomp
from autograder.sandbox.canary import ATTEMPTS
from autograder.sandbox.client import Zygote
from autograder.sandbox.label import judge

LAYERS = ["rlimits", "landlock", "seccomp"]
# RLIMIT_NPROC also refuses the fork, but not to root: it never counts as a refusal.
FORKED = ("SUCCEEDED", "EAGAIN")


def test_only_observed_refusals_enforce():
    refused = dict.fromkeys(ATTEMPTS, "EPERM")
    assert judge(refused, LAYERS).name == "ENFORCED"
    for attempt in ATTEMPTS:
        for outcome in ("SUCCEEDED", "ENOENT", "EAGAIN", ""):
            assert judge(refused | {attempt: outcome}, LAYERS).name == "ADVISORY"
        assert judge({a: o for a, o in refused.items() if a != attempt}, LAYERS).name == "ADVISORY"


@pytest.mark.skipif(not seccomp.supported(), reason="no system-call filter on this system")
def test_the_label_of_this_machine_rests_on_five_refusals(zygote: Zygote):
    assert zygote.label.name == "ENFORCED"
    assert set(zygote.label.evidence) == set(ATTEMPTS)
    assert {"rlimits", "seccomp"} <= set(zygote.label.layers)


def test_without_the_filter_the_label_is_advisory_and_workers_work():
    with Zygote(serve=ECHO, extra_path=[HERE], layers={"rlimits", "landlock"}) as zygote:
        assert zygote.label.name == "ADVISORY"
        assert zygote.label.evidence["socket"] == "SUCCEEDED" and zygote.label.evidence["fork"] in FORKED
        with zygote.spawn() as worker:
            assert run(worker, "result = 5") == 5


def test_where_the_system_has_none_of_it_the_label_is_advisory_and_workers_work():
    """As on macOS: neither filter nor Landlock nor prctl nor pidfd."""
    with Zygote(serve="sandbox_elsewhere:serve", extra_path=[HERE]) as zygote:
        assert zygote.label.name == "ADVISORY"
        assert zygote.label.evidence["fork"] in FORKED
        assert {zygote.label.evidence[attempt] for attempt in ATTEMPTS if attempt != "fork"} == {"SUCCEEDED"}
        assert list(zygote.label.layers) == ["rlimits"]
        with zygote.spawn() as worker:
            assert run(worker, "result = 5") == 5
            assert worker._pidfd is None
            with pytest.raises(Exception, match="ended itself"):
                worker.request(1, b"import os; os._exit(3)")


@pytest.mark.skipif(not seccomp.supported() or os.geteuid() != 0, reason="needs root, to become somebody else")
def test_the_seal_holds_for_an_unprivileged_grader_too():
    script = (
        "import os; from autograder.sandbox.client import Zygote\n"
        f"with Zygote(serve={ECHO!r}, extra_path=[{HERE!r}]) as zygote, zygote.spawn() as worker:\n"
        "    kind, _ = worker.request(1, b'import torch; (torch.ones(3, 3) @ torch.ones(3, 3)).sum()', 60)\n"
        "    print(os.geteuid(), zygote.label.name, kind)\n"
        "    with zygote.spawn(layers=()) as bare:\n"
        "        source = 'result = open(\"/proc/self/oom_score_adj\").read()'\n"
        "        print(bare.request(1, source.encode(), 60)[1][-5:].decode().strip())\n"
        "        for pid in (os.getpid(), zygote.pid):\n"
        "            source = f'open(\"/proc/{pid}/environ\").read()'\n"
        "            print(bare.request(1, source.encode(), 60)[1].decode().splitlines()[-1])\n"
    )
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    try:
        subprocess.run([sys.executable, "-c", "import autograder.sandbox.client"], cwd="/", capture_output=True,
                       check=True, **nobody)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("an unprivileged user cannot read this Python or this checkout")
    done = subprocess.run([sys.executable, "-c", script], cwd="/", capture_output=True, text=True, timeout=300,
                          **nobody)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["65534 ENFORCED 1", "1000"], done.stderr
    assert len(lines) == 4 and all("Permission denied" in line for line in lines[2:])
