"""`autograder doctor`: what this machine can do, proven by trying."""
from __future__ import annotations

import importlib.metadata
import platform

from autograder.course import Course

PACKAGES = ("torch", "pytest", "hypothesis", "numpy", "nbgrader", "jupyterlab", "torch-geometric", "otter-grader")


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
    import torch
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; speed points stay pending"
    print(f"GPU        {gpu}")
    if label.name != "ENFORCED":
        print("Graded runs need a sandbox that holds: Linux with seccomp, not as a container without it. "
              "`autograder grade --unsandboxed` grades trusted code all the same.")
        return 3
    return 0
