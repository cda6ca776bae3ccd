"""A tiny executor for the sandbox's tests: it runs the source that it is sent and replies with `result`."""
from __future__ import annotations

import sys
import traceback
import types

from etude import wire

RUN, ECHO = 1, 2
DONE, FAILED = 1, 2


def serve(fd: int) -> None:
    """Answer `RUN` by executing the payload as Python source, `ECHO` by sending the payload back."""
    while (request := wire.read_frame(fd)) is not None:
        kind, payload = request
        if kind == ECHO:
            wire.write_frame(fd, DONE, payload)
            continue
        module = sys.modules["submission"] = types.ModuleType("submission")
        names = vars(module)
        names["fd"] = fd
        try:
            exec(compile(payload, "submission", "exec"), names)
            wire.write_frame(fd, DONE, wire.encode(names.get("result")))
        except BaseException:
            wire.write_frame(fd, FAILED, traceback.format_exc().encode())
