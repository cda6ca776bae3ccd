"""An executor whose import makes the zygote believe that it runs on a system without Linux's protections."""
from __future__ import annotations

import os

from sandbox_echo import serve

from autograder.sandbox import landlock, libc

__all__ = ["serve"]

libc.LINUX = False
landlock.abi = lambda: 0
if hasattr(os, "pidfd_open"):
    del os.pidfd_open
