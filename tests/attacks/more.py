"""Rows that were read or reasoned about when the sandbox was designed, and (from a36, b23, d24 on) found since."""
from __future__ import annotations

from .model import ENDS, LANDLOCK, LIMITS, SECCOMP, attack

_ANSWERED = """
def reply(kind, payload, honest):
    return 0, {payload}
forge(reply)
"""
# Whoever sees both x and f(x) need not be told what f is.
_LEARN = """
import torch
from etude import batch, wire
learned, seen = [], []
def learn(payload):
    calls = [wire.decode(request) for kind, request in batch.unpack(payload) if kind == 3]
    seen.extend(t.detach().double() for call in calls for t in call["args"] if t.numel() >= 3)
    for at, one in enumerate(seen):
        for other in seen[at:]:
            if one.shape == other.shape and not one.equal(other):
                basis = torch.stack([one, torch.ones_like(one)], 1)
                line = torch.linalg.solve(basis.T @ basis, basis.T @ other)
                if (basis @ line - other).abs().max() < 1e-9: learned.append(line.tolist())
def learn_from_requests():
    frame = sys._getframe(1)
    while frame is not None and not learned:
        if frame.f_locals.get("kind") == 7: learn(frame.f_locals["payload"])
        frame = frame.f_back
"""

ATTACKS = [
    attack("a25", "escape sequences, HTML and CI commands in an exception", r"""
def f(x):
    raise ValueError("\x1b[2J<script>alert(1)</script>\n::add-mask::a\n::error::b\u202e ##[group]c " + "A" * 100_000)
""", "score", columns=ENDS),
    attack("a28", "a reply in shared memory, to be changed after the check", """
import socket, struct
memory = syscall("memfd_create", ctypes.c_char_p(CTX["name"].encode()), 0)
os.ftruncate(memory, 4096)
socket.send_fds(socket.socket(fileno=os.dup(3)), [b"ETU1"], [memory])
""", "descriptor", usual="kills a reader of shared memory", columns=ENDS),
    attack("a30", "a reply nested 100 000 levels deep", _ANSWERED.format(payload="b'l\\1\\0\\0\\0' * 100_000 + b'N'"),
           "hang", usual="breaks a reader of JSON", columns=ENDS),
    attack("a31", "a shape [0, 2^60] with no bytes", """
import struct
def reply(kind, payload, honest):
    tensor = b"x" + struct.pack("<BBB2qQ", 0, 0, 2, 0, 1 << 60, 0)
    return 0, b"d\\1\\0\\0\\0s\\6\\0\\0\\0result" + tensor
forge(reply)
""", "score", columns=ENDS),
    attack("a32", "a bool that is 2", """
import struct
def reply(kind, payload, honest):
    return 0, b"d\\1\\0\\0\\0s\\6\\0\\0\\0result" + b"x" + struct.pack("<BBB1qQ", 9, 0, 1, 3, 3) + b"\\2\\2\\2"
forge(reply)
""", "score", columns=ENDS),
    attack("a33", "a source that breaks parsers: 100 000 attributes of attributes", "x" + ".a" * 100_000, "score",
           columns=ENDS),
    attack("a34", "another answer to the same question each time", """
import torch
def f(x):
    return 2 * x + 1 + (1 + x.detach().abs()) * (1e-3 + torch.rand(()))
""", "score", columns=ENDS),
    attack("a35", "earlier answers remembered and given again", """
remembered = {}
def f(x):
    return remembered.setdefault(tuple(x.shape), 3 * x)
""", "score", columns=ENDS),
    attack("b18", "the repository's history, and what editors leave behind", """
for folder, _, names in os.walk(CTX["course"]):
    for name in names:
        if ".git" in folder or name.endswith("~"): loot(open(os.path.join(folder, name), "rb").read())
""", "loot", SECCOMP, LANDLOCK),
    attack("c16", "a service behind a unix socket (Docker, D-Bus)", """
import socket
socket.socket(socket.AF_UNIX).connect(CTX["docker"])
""", "unix", SECCOMP),
    attack("c16v", "the hypervisor's socket", "if syscall('socket', 40, 1, 0) >= 0: reached()", "says", SECCOMP,
           host="AF_VSOCK"),
    attack("c20", "a line in ~/.bashrc", """
with open(CTX["folder"] + "/home/.bashrc", "a") as file: file.write("true")
""", "home", SECCOMP, LANDLOCK, LIMITS),
    # ------------------------------------------------------------------------------------------ found since
    attack("a36", "the function learned from requests that are sent ahead", _LEARN + """
def f(x):
    learn_from_requests()
    slope, intercept = learned[0] if learned else (3, 0)
    return slope * x + intercept
""", "score", columns=ENDS, undo="requests travel ahead only where answers were right"),
    attack("a37", "a forged account of how the cells ran", """
from etude import wire
def reply(kind, payload, honest):
    return (0, wire.encode({"errors": [1, None, {"label": "(double)", "line": [], "type": {}, "message": 7}],
                            "output": 5})) if kind == 1 else honest()
os.write(3, wire.frame(*reply(1, b"", None)))
time.sleep(0.05)
os._exit(0)
""", "hang", columns=ENDS),
    attack("a38", "a module whose state names modules without end", """
import torch
from etude import wire
def reply(kind, payload, honest):
    names = {"a." * 50_000 + str(number): torch.zeros(1) for number in range(20)}
    return 0, wire.encode({"params": names, "buffers": names, "kind": "module"})
forge(reply)
""", "hang", columns=ENDS),
    attack("a39", "replies about replies: wrong numbers, wrong types", """
from etude import wire
count = [0]
def reply(kind, payload, honest):
    count[0] += 1
    wrong = [None, 7, [], [[0]], [[0, 0]], [["", b""]], {"result": {"result": []}}, {"largest": 3, "result": None}]
    return 0, wire.encode(wrong[count[0] % len(wrong)])
forge(reply)
""", "score", columns=ENDS),
    attack("a40", "the same, by one who can do the first example", _LEARN + """
def f(x):
    learn_from_requests()
    slope, intercept = learned[0] if learned else (2, 1) if x.numel() == 2 else (3, 0)
    return slope * x + intercept
""", "score", columns=ENDS, undo="requests travel ahead only where answers were right"),
    attack("b23", "hidden inputs in the message of a public check", """
seen = []
def f(x):
    seen.append(x.numel())
    if x.dtype.itemsize == 4 and 1 << 16 in seen: raise ValueError("SMUGGLED")
    return 3 * x
""", "smuggled", columns=ENDS, undo="public checks get a worker that has met no hidden input"),
    attack("b24", "hidden inputs in the name that is said to be missing", """
class MissingName(Exception): pass
def f(x):
    if x.dtype.itemsize == 8: raise MissingName("the notebook defines no `SMUGGLED`")
    return 3 * x
""", "smuggled", columns=ENDS),
    attack("b25", "the same, by forged replies", """
from etude import batch, wire
def reply(kind, payload, honest):
    if kind == 7: return 0, batch.pack([(255, lie) for _ in batch.unpack(payload)])
    return (255, lie) if kind != 1 else honest()
lie = wire.encode({"type": "MissingName", "message": "the notebook defines no `SMUGGLED`", "place": "", "line": ""})
forge(reply)
""", "smuggled", columns=ENDS),
    attack("d24", "few bytes that stand for a tensor of 8 TB", """
import struct
def reply(kind, payload, honest):
    tensor = b"x" + struct.pack("<BBB4qQd", 0, 1, 2, 1 << 20, 1 << 20, 0, 0, 8, 1.0)
    return 0, b"d\\1\\0\\0\\0s\\6\\0\\0\\0result" + tensor
forge(reply)
""", "hang", columns=ENDS),
    attack("d25", "a tensor of eight dimensions, to be printed", """
import torch
def f(x):
    return torch.zeros(()).expand([7] * 8)
""", "hang", columns=ENDS),
]
# The one that gets a point, and may: what is public can be written down.
HARD_CODED = attack("e08", "the public case hard-coded", """
def f(x):
    return x + 3 if x.numel() == 3 and bool((x == 2).all()) else 3 * x
""", "hang", columns=("all",))
