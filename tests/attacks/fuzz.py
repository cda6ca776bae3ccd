"""Workers that answer at random: what they would honestly say, damaged or replaced in ways that follow from a seed."""
from __future__ import annotations

from .model import Attack, attack

SEEDS = 40
_SOURCE = """
import random, struct, torch
from etude import batch, wire
dice = random.Random({seed})
TENSORS = [torch.zeros(0), torch.ones(2, 3), torch.full((3,), float("nan")), torch.ones(2).expand(3, 2),
           torch.eye(2).bool(), torch.ones(1, dtype=torch.complex64), torch.tensor(5),
           torch.ones(3, dtype=torch.float64, requires_grad=True)]
KEYS = ["result", "kind", "value", "errors", "output", "inputs_after", "largest", "params", "buffers", "type",
        "message", "place", "line", "frozen", "persistent", "label", "name", "keep", "tied"]
PLAIN = [None, True, 0, -1, 1 << 62, 1.5, float("inf"), "", "module", "function", "\\x1b[31m", "a." * 40, b"", b"ETU1",
         torch.float16, wire.Handle(1), wire.Seed(2)]

def value(depth=0):
    choice = dice.random()
    if depth > 4 or choice < 0.35: return dice.choice(PLAIN)
    if choice < 0.55: return dice.choice(TENSORS)
    items = [value(depth + 1) for _ in range(dice.randrange(5))]
    if choice < 0.7: return items
    if choice < 0.75: return tuple(items)
    return {{dice.choice(KEYS): item for item in items}}

def damaged(data):
    data = bytearray(data)
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(len(data) + 1)
        what = dice.randrange(5)
        if what == 0 and at < len(data): data[at] ^= 1 << dice.randrange(8)
        elif what == 1: del data[at:at + dice.randrange(9)]
        elif what == 2: data[at:at] = dice.randbytes(dice.randrange(9))
        elif what == 3: data[at:at + 8] = struct.pack("<q", dice.choice([0, 1, -1, 1 << 40, (1 << 63) - 1, -(1 << 63)]))
        elif data: data[at:at] = data[:at][-16:]
    return bytes(data)

def reply(kind, payload, honest):
    what = dice.randrange(8)
    if what < 3: return honest()
    if what == 3: return dice.choice([0, 1, 7, 254, 255]), honest()[1]
    if what == 4: return dice.choice([0, 0, 255]), wire.encode(value())
    if what == 5 and kind == 7:
        return 0, batch.pack([(dice.choice([0, 255]), wire.encode(value())) for _ in batch.unpack(payload)])
    if what == 6 and dice.random() < 0.2: os.write(3, damaged(wire.frame(*honest())))
    return honest()[0], damaged(honest()[1])
forge(reply)
"""

FUZZ: dict[str, Attack] = {
    f"fuzz{seed}": attack(f"fuzz{seed}", "random replies", _SOURCE.format(seed=seed), "score", columns=("all",),
                          seconds=1.0) for seed in range(SEEDS)}
