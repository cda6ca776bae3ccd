"""The worker's side of timing: load a program, map the shared buffers, call one function at a time.

It holds no secret and makes no statement that anybody relies on: that it has answered is all that its answer says.
"""
from __future__ import annotations

import sys
from typing import Any

import torch

from autograder.sandbox import libc
from autograder.sandbox.zygote import HELLO, MEMORY_FD
from autograder.speed.memory import LINE, Layout
from etude import wire
from etude.cells import load_program, place_of, type_name

OPEN, CALL, WATCHED = 1, 2, 3
# Replies
OK, ERROR = 0, 255
_MAX_MESSAGE = 500


class Caller:
    """Answers requests about one program."""

    def __init__(self, memory: int):
        self._memory = memory

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run the cells and find the function. The layouts are those of the outputs, then of the inputs."""
        self._layouts = [Layout(tuple(shape), dtype) for shape, dtype in request["layouts"]]
        self._settings, self._cuda = request["settings"], request["cuda"]
        self._slots = self._mapped(request["handles"], request["size"])
        program = load_program(request["cells"], as_main=True)
        self._function, self._namespace = program.namespace.get(request["call"]), program.namespace
        return {"errors": [str(error) for error in program.errors], "found": callable(self._function)}

    def _mapped(self, handles: list[list[Any]], size: int) -> list[list[torch.Tensor]]:
        if self._cuda:
            from autograder.speed.cuda import open_handle
            return [[open_handle(handle, layout.lines) for handle, layout in zip(slot, self._layouts, strict=True)]
                    for slot in handles]
        memory = torch.frombuffer(libc.map_shared(self._memory, size), dtype=torch.uint8)
        return [[memory[start:start + LINE * layout.lines].view(-1, LINE)
                 for start, layout in zip(slot, self._layouts, strict=True)] for slot in handles]

    def call(self, request: dict[str, Any]) -> None:
        """One call with the buffers of one slot."""
        buffers = self._slots[request["slot"]]
        self._function(*(layout.view(lines) for layout, lines in zip(self._layouts, buffers, strict=True)),
                       **self._settings)
        if self._cuda:
            torch.cuda.synchronize()

    def watched(self, request: dict[str, Any]) -> list[list[Any]]:
        """One call of a program that ends with `autograder.grading.call_log`: what it called of PyTorch."""
        self._namespace["etude_log_start"]()
        try:
            self.call(request)
        finally:
            noted = self._namespace["etude_log_stop"]()
        return noted


def serve(fd: int, memory: int = MEMORY_FD) -> None:
    """Answer the requests on a stream until it ends."""
    caller = Caller(memory)
    handlers = {OPEN: caller.open, CALL: caller.call, WATCHED: caller.watched}
    while (frame := wire.read_frame(fd)) is not None:
        kind, payload = frame
        try:
            reply = OK, wire.encode(handlers[kind](wire.decode(payload)))
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: only a kill ends a worker
            reply = ERROR, wire.encode(_described(error))
        wire.write_frame(fd, *reply)


def _described(error: BaseException) -> dict[str, str]:
    place = place_of(error)
    try:
        message = str(error)[:_MAX_MESSAGE]
    except BaseException:  # a hostile __str__
        message = ""
    return {"type": type_name(error)[:80], "message": message, "place": f"{place[0]}, line {place[1]}" if place else ""}


def main() -> None:
    """Entry point of `python -m autograder.speed.worker SOCKET MEMORY CPU_SECONDS`: a worker that is not sealed."""
    from autograder.speed.process import limit_this_process
    data, memory, seconds = map(int, sys.argv[1:])
    layers = limit_this_process(seconds)
    wire.write_frame(data, HELLO, ",".join(layers).encode())
    serve(data, memory)


if __name__ == "__main__":
    main()
