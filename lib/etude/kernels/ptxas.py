"""From PTX to what it costs: registers, spills, shared memory. `ptxas` comes with Triton and needs no GPU.

The PTX comes from a student's process: it is data for `ptxas`, which gets a folder of its own, limits, no more.
"""
from __future__ import annotations

import importlib.util
import re
import resource
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

MAX_PTX = 4 << 20
SECONDS = 60
TARGET = "sm_90a"
_MEMORY = 4 << 30


@dataclass(frozen=True)
class Resources:
    """What one kernel needs on the target."""

    kernel: str
    registers: int
    """Per thread; at most 255."""
    spilled: int
    """Bytes that did not fit in registers and go to memory, per thread."""
    shared: int
    """Bytes of shared memory known at build time."""
    tensor_cores: str
    """`wgmma`, `mma`, or nothing: which instructions for matrix products it has."""
    tf32: bool = False
    """Whether one of these rounds float32 operands to TF32."""

    def __str__(self) -> str:
        spilled = f"{self.spilled} bytes spilled" if self.spilled else "no spills"
        cores = f"tensor cores by {self.tensor_cores}" if self.tensor_cores else "no tensor cores"
        cores += " in TF32" if self.tf32 else ""
        return f"`{self.kernel}`: {self.registers} registers, {spilled}, {cores}"


class NotAssembled(Exception):
    """ptxas refused the PTX, or there is none. One line."""


def has_tf32(ptx: str) -> bool:
    """Whether PTX has matrix products of TF32."""
    return re.search(r"mma[a-z_.]*\.[^;\n]*\.tf32", ptx) is not None


@lru_cache(maxsize=512)
def resources_of(kernel: str, ptx: str) -> Resources:
    """What `ptxas -v` says of a kernel. Raises `NotAssembled`."""
    if len(ptx) > MAX_PTX or not ptx.isascii():
        raise NotAssembled(f"`{kernel}`: its PTX is {len(ptx)} characters long or not ASCII")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.ptx").write_text(ptx)
        command = [str(_ptxas()), "-v", f"--gpu-name={TARGET}", "kernel.ptx", "-o", "kernel.cubin"]
        try:
            done = subprocess.run(command, cwd=folder, env={"TMPDIR": folder}, stdin=subprocess.DEVNULL,
                                  capture_output=True, timeout=SECONDS, preexec_fn=_limit)
        except subprocess.TimeoutExpired:
            raise NotAssembled(f"`{kernel}`: ptxas took more than {SECONDS} s") from None
    said = (done.stdout + done.stderr).decode("ascii", "replace")
    if done.returncode:
        raise NotAssembled(f"`{kernel}`: ptxas refused it: {' '.join(said.split())[:300]}")
    cores = "wgmma" if "wgmma.mma_async" in ptx else "mma" if re.search(r"\bmma\.sync", ptx) else ""
    return Resources(kernel, _number(r"Used (\d+) registers", said), _number(r"(\d+) bytes spill stores", said),
                     _number(r"(\d+) bytes smem", said), cores, has_tf32(ptx))


def _number(pattern: str, text: str) -> int:
    return max((int(one) for one in re.findall(pattern, text)), default=0)


def _ptxas() -> Path:
    found = importlib.util.find_spec("triton")
    for folder in (found.submodule_search_locations or []) if found else []:
        # The one called after Blackwell is the newer of the two, and serves older devices as well.
        for name in ("ptxas-blackwell", "ptxas"):
            path = Path(folder) / "backends" / "nvidia" / "bin" / name
            if path.exists():
                return path
    raise NotAssembled("there is no ptxas: it comes with Triton")


def _limit() -> None:
    """In the child: no more time, memory and disk than a build takes."""
    for name, value in (("CPU", SECONDS), ("AS", _MEMORY), ("FSIZE", 64 << 20), ("NOFILE", 64), ("CORE", 0)):
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
