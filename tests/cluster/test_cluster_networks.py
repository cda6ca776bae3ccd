"""Other ways to a cluster: another network, which may be cut off; TLS; and jobs of SLURM, whose commands are played."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dask_cluster import Cluster, hand_in, whole

dask = pytest.importorskip("dask", reason="dask is not installed: the extra `cluster`")
OURS, THEIRS = "10.213.77.1", "10.213.77.2"


@pytest.fixture
def far_away() -> Iterator[tuple[str, str]]:
    """(name of a network namespace that reaches this one at `OURS`, this end of the cable)."""
    name, cable = f"etude{os.getpid()}", f"et{os.getpid()}"
    steps = [["netns", "add", name], ["link", "add", cable, "type", "veth", "peer", "name", "there", "netns", name],
             ["addr", "add", f"{OURS}/24", "dev", cable], ["link", "set", cable, "up"],
             ["-n", name, "addr", "add", f"{THEIRS}/24", "dev", "there"], ["-n", name, "link", "set", "there", "up"],
             ["-n", name, "link", "set", "lo", "up"]]
    try:
        for step in steps:
            done = subprocess.run(["ip", *step], capture_output=True, text=True) if shutil.which("ip") else None
            if done is None or done.returncode:
                pytest.skip("no network namespaces here: " + (done.stderr.strip() if done else "no command `ip`"))
        yield name, cable
    finally:
        if shutil.which("ip"):
            subprocess.run(["ip", "link", "del", cable], capture_output=True)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def test_workers_in_another_network_and_one_that_is_cut_off(cluster: Cluster, grade: Callable,
                                                           far_away: tuple[str, str]) -> None:
    name, cable = far_away
    hand_in(["s0", "s1", "s2", "s3"])
    address = cluster.start(workers=0, host=OURS, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="5s")
    cluster.add(prefix=["ip", "netns", "exec", name], ETUDE_TEST_NAME="far")
    code, _, err = grade("--cluster", address)
    assert code == 0 and err.count("\n") == 1 and "neither encrypted nor authenticated" in err
    assert {line.split()[0] for line in cluster.noted("graded")} == {"far"}

    hand_in(["slow_a"])

    def cut() -> None:
        while not cluster.noted("slow_a"):
            time.sleep(0.05)
        cluster.add(ETUDE_TEST_NAME="near")
        subprocess.run(["ip", "link", "set", cable, "down"], check=True)
    cutter = threading.Thread(target=cut, daemon=True)
    cutter.start()
    assert grade("--cluster", address)[0] == 0 and not cutter.is_alive()
    assert [line.split()[0] for line in cluster.noted("graded") if line.endswith("slow_a")] == ["far", "near"]
    assert grade(out="here")[0] == 0
    assert whole("out") == whole("here") and len(whole("out")) == 5


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    """Dask's settings for TLS, with one certificate for everybody."""
    if not shutil.which("openssl"):
        pytest.skip("no command `openssl` to make a certificate with")
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
                    "-days", "1", "-subj", "/CN=etude"], check=True, capture_output=True)
    files = {"ca-file": certificate, **{f"{who}.{what}": path for who in ("scheduler", "worker", "client")
                                        for what, path in (("cert", certificate), ("key", key))}}
    return files


def environment(files: dict[str, str]) -> dict[str, str]:
    """The settings as dask finds them in the environment."""
    return {"DASK_DISTRIBUTED__COMM__TLS__" + name.upper().replace("-", "_").replace(".", "__"): path
            for name, path in files.items()}


def settings(files: dict[str, str]) -> dict[str, str]:
    """The settings for this process."""
    return {f"distributed.comm.tls.{name}": path for name, path in files.items()}


def test_with_tls_only_who_has_a_certificate_gets_in(cluster: Cluster, grade: Callable,
                                                     certificates: dict[str, str]) -> None:
    address = cluster.start(workers=1, tls=True, DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION="true",
                            **environment(certificates))
    hand_in(["s0", "s1"])
    code, _, err = grade("--cluster", address)
    assert code == 2 and "no scheduler answers there" in err and "Traceback" not in err, "without a certificate"
    with dask.config.set(settings(certificates)):
        code, _, err = grade("--cluster", address)
    assert (code, err) == (0, "")
    assert grade(out="here")[0] == 0 and whole("out") == whole("here")


SBATCH = """#!/bin/sh
cp "$1" "$FAKE_SLURM/job.sh"
cd "$FAKE_SLURM"
setsid sh job.sh > "$FAKE_SLURM/job.$$.log" 2>&1 < /dev/null &
echo $! >> "$FAKE_SLURM/submitted"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
echo "$1" >> "$FAKE_SLURM/cancelled"
kill -- "-$1"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The commands of SLURM as scripts that start jobs on this machine; the folder of their notes."""
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: the extra `cluster`")
    home = tmp_path / "slurm"
    home.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (home / name).write_text(text)
        (home / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("FAKE_SLURM", str(home))
    yield home
    for line in (home / "submitted").read_text().split() if (home / "submitted").exists() else []:
        subprocess.run(["kill", "-9", "--", f"-{line}"], capture_output=True)


@pytest.mark.parametrize("tls", [False, True])
def test_slurm_gets_as_many_jobs_as_are_asked_for_and_none_is_left(slurm: Path, grade: Callable, tls: bool,
                                                                  request: pytest.FixtureRequest) -> None:
    hand_in(["s0", "s1", "s2", "s3"])
    files = request.getfixturevalue("certificates") if tls else {}
    with dask.config.set({"jobqueue.slurm.cores": 1, "jobqueue.slurm.processes": 1, "jobqueue.slurm.memory": "2GB",
                          "jobqueue.slurm.interface": "lo", "jobqueue.slurm.python": sys.executable,
                          "jobqueue.slurm.log-directory": None, **settings(files)}):
        code, _, err = grade("--cluster", "slurm", "--jobs", "2")
    assert (code, err) == (0, "")
    assert len((slurm / "submitted").read_text().split()) == 2
    assert ("tls://" if tls else "tcp://") in (slurm / "job.sh").read_text()
    assert sorted((slurm / "cancelled").read_text().split()) == sorted((slurm / "submitted").read_text().split())
    assert grade(out="here")[0] == 0 and whole("out") == whole("here")


def test_jobs_that_are_not_described_are_a_users_mistake(slurm: Path, grade: Callable) -> None:
    hand_in(["s0"])
    code, _, err = grade("--cluster", "slurm")
    assert code == 2 and err.count("\n") == 1
    assert err.startswith("autograder: --cluster slurm: ") and "~/.config/dask/jobqueue.yaml" in err
    assert not (slurm / "submitted").exists()
