"""How it is seen from outside whether an attack got what it wanted."""
from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bout import Bout

SAID = b"REACHED"
LARGE = 64 << 20
FLOOD = 1 << 16

# Looked at while the attacking worker still lives.
LIVE: dict[str, Callable[[Bout], bool]] = {
    "lock": lambda bout: bout.scene.locked(bout.pid),
    "neighbour": lambda bout: not bout.neighbour_answers(),
}
# Looked at when its report is there.
AFTER: dict[str, Callable[[Bout], bool]] = {
    "score": lambda bout: bout.report.score > 0,
    "loot": lambda bout: bout.secret in bout.everything_that_came_back(),
    "says": lambda bout: any(SAID in reply for reply in bout.replies),
    "results": lambda bout: bout.scene.results_changed(),
    "memory": lambda bout: tracemalloc.get_traced_memory()[1] > LARGE,
    "signal": lambda bout: bout.scene.signals > 0,
    "verdict": lambda bout: bout.scene.verdict.value == b"PASSED",
    "zygote": lambda bout: bout.zygote_is_poisoned(),
    "control": lambda bout: bout.control_socket_speaks(),
    "dropped": lambda bout: bout.scene.drop.exists(),
    "dropped_shm": lambda bout: bout.scene.shm_drop.exists(),
    "home": lambda bout: (bout.scene.folder / "home" / ".bashrc").stat().st_size > 0,
    "tcp": lambda bout: bout.scene.connected(bout.scene.tcp),
    "udp": lambda bout: bout.scene.connected(bout.scene.udp),
    "abstract": lambda bout: bout.scene.connected(bout.scene.abstract),
    "unix": lambda bout: bout.scene.connected(bout.scene.unix),
    "survivor": lambda bout: bool(bout.scene.survivors()),
    "key": lambda bout: bout.scene.key_left(),
    "sysv": lambda bout: bout.scene.sysv_left(),
    "filled": lambda bout: bout.scene.drop.exists() and bout.scene.drop.stat().st_size >= 20 << 20,
    "flood": lambda bout: any(len(reply) > FLOOD for reply in bout.replies[:1]),  # what the cells printed
    "large_reply": lambda bout: bout.largest_reply > LARGE,
    "core": lambda bout: bout.core_dumped,
    "smuggled": lambda bout: bout.student_sees("SMUGGLED"),
    "descriptor": lambda bout: bout.received_a_file(),
    "hang": lambda bout: False,  # this is asked when the grader has come back; `Arena` notices if it does not
}
AIMS = LIVE.keys() | AFTER.keys()
