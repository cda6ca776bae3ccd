"""What an attack is, and which layers the columns of the table have."""
from __future__ import annotations

from dataclasses import dataclass

from autograder.sandbox.client import ALL_LAYERS

HIDDEN, LIMITS, LANDLOCK, SECCOMP = "hidden", "limits", "landlock", "seccomp"
"""`hidden`: no process may be read by its equals, and workers have no capabilities. `limits`: rlimits and watchdog."""


@dataclass(frozen=True)
class Column:
    """One set of layers that an attack runs under."""

    name: str
    layers: frozenset[str]

    @property
    def exposed(self) -> bool:
        """Whether grader and zygote can be read by their equals, and workers keep root's capabilities."""
        return HIDDEN not in self.layers

    @property
    def sandbox_layers(self) -> frozenset[str]:
        """Of these layers, what `Zygote.spawn` takes."""
        names = {LIMITS: "rlimits", LANDLOCK: "landlock", SECCOMP: "seccomp"}
        return frozenset(names[layer] for layer in self.layers if layer in names)

    @property
    def sealed(self) -> bool:
        return not self.exposed and self.sandbox_layers == ALL_LAYERS


COLUMNS = {name: Column(name, frozenset(layers)) for name, layers in {
    "none": (), HIDDEN: (HIDDEN,), LIMITS: (LIMITS,), LANDLOCK: (LANDLOCK,), SECCOMP: (SECCOMP,),
    "limits+landlock": (LIMITS, LANDLOCK), "limits+seccomp": (LIMITS, SECCOMP),
    "all": (HIDDEN, LIMITS, LANDLOCK, SECCOMP),
}.items()}
ENDS = ("none", "all")


@dataclass(frozen=True)
class Attack:
    """A submission whose function is wrong, and what it is after."""

    id: str
    title: str
    source: str
    """Comes after `prelude.PRELUDE`, whose names it may use, and whose `f` is wrong."""
    aim: str
    """A name in `aims.AIMS`: how it is seen from outside whether the attack got what it wanted."""
    stopped_by: frozenset[str] = frozenset()
    """The layers each of which stops it alone. None: the architecture stops it, with no layer at all."""
    unprivileged: frozenset[str] = frozenset()
    """Layers that stop it, too, where the grader is not root."""
    usual: str = ""
    """What it does to the usual design, a name in `usual.HARM`; the negative control of the architecture."""
    usual_source: str | None = None
    """The submission for that, where it has to be written differently."""
    seconds: float = 30.0
    """How long one call may take; short where the attack is to take for ever."""
    memory_mb: int = 512
    cpu_seconds: int = 60
    columns: tuple[str, ...] = tuple(COLUMNS)
    undo: str = ""
    """What of the grader's own care keeps it from its aim, a name in `undo.UNDO`; taken away for the control."""
    host: str = ""
    """Why some hosts refuse it to everybody: there is no negative control on these."""

    def reached_under(self, column: Column, root: bool) -> bool:
        """Whether the attack should reach its aim with the layers of `column`."""
        stopping = self.stopped_by if root else self.stopped_by | self.unprivileged
        return bool(self.stopped_by) and not stopping & column.layers


def attack(id: str, title: str, source: str, aim: str, *stopped_by: str, unprivileged: tuple[str, ...] = (),
           **fields: object) -> Attack:
    """An `Attack`; `stopped_by` as plain arguments, to keep the tables readable."""
    return Attack(id, title, source.strip() + "\n", aim, frozenset(stopped_by), frozenset(unprivileged), **fields)
