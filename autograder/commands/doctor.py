"""`autograder doctor`: what this machine can do, proven by trying."""
from __future__ import annotations

import importlib.metadata
import platform

from autograder.course import Course
from autograder.one_line import one_line

PACKAGES = ("torch", "pytest", "hypothesis", "numpy", "nbgrader", "jupyterlab", "torch-geometric", "otter-grader")
NO_CUDA = "without CUDA"
STAYS_PENDING = "speed points stay pending until `autograder bench` runs on a machine that has a GPU"


def run_doctor(course: Course) -> int:
    """0 if graded runs are possible here, else 3."""
    from autograder.sandbox.client import Zygote
    print(f"course     {course.title}, {len(course.units)} unit(s), {course.root}")
    print(f"system     {platform.system()} {platform.release()}, Python {platform.python_version()}")
    for name in PACKAGES:
        try:
            print(f"package    {name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"package    {name} is missing; run `make test` or pip install -c constraints.txt -e .")
    with Zygote(preload=course.preload) as zygote:
        label = zygote.label
        print(f"sandbox    {label.name}; layers: {', '.join(label.layers) or 'none'}")
        for attempt, outcome in label.evidence.items():
            print(f"  tried {attempt}: {outcome}")
    from etude.kernels import why_not
    print(f"Triton     {why_not() or importlib.metadata.version('triton')}")
    for line in gpu_lines():
        print(line)
    if label.name != "ENFORCED":
        print("Graded runs need a sandbox that holds: Linux with seccomp, not as a container without it. "
              "`autograder grade --unsandboxed` grades trusted code all the same.")
        return 3
    return 0


def gpu_lines() -> list[str]:
    """The GPU that `autograder bench` would time on, with what figures depend on; or that there is none, and why."""
    import torch

    from autograder.speed.device import open_device
    cuda = torch.version.cuda
    built = f"PyTorch {torch.__version__} is built {f'for CUDA {cuda}' if cuda else NO_CUDA}"
    try:
        device = open_device("cuda")
        found = device.describe() if device else {}
    except (RuntimeError, AssertionError) as error:  # a driver that does not fit, a device that another process holds
        return [f"GPU        one that PyTorch cannot use: {one_line(str(error))}",
                f"           {built}; {STAYS_PENDING}"]
    if not found:
        return [f"GPU        none: {built}{', and sees no device' if cuda else ''}",
                f"           {STAYS_PENDING}"]
    memory = int(found["memory_bytes"]) / 2**30
    return [f"GPU        {found['device']}, compute capability {found['capability']}, {memory:.0f} GiB, "
            f"driver {found.get('driver') or 'not known'}",
            f"           {built}; Triton {found.get('triton') or 'is not installed'}"]
