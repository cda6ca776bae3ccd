"""Group d: exhaust what the grader or the machine has. Every one is bounded, also where nothing stops it."""
from __future__ import annotations

from .model import ENDS, LANDLOCK, LIMITS, SECCOMP, attack

_HANGS = {"usual": "hangs", "seconds": 0.1, "columns": ENDS}
_LIMITED = ("none", LIMITS, "all")
_DEPTH = 19  # the body of a finally is compiled twice
_FINALLY = "".join(f"{'    ' * n}try: pass\n{'    ' * n}finally:\n" for n in range(_DEPTH)) + "    " * _DEPTH + "x = 1"

ATTACKS = [
    attack("d01", "endless loop", "def f(x):\n    while True: pass", "hang", **_HANGS),
    attack("d02", "a loop in C that holds the interpreter's lock", "def f(x):\n    return 10 ** 10 ** 8", "hang",
           **_HANGS),
    attack("d03", "more CPU time than allowed", """
while time.process_time() < 1.6: pass
reached()
""", "says", LIMITS, columns=_LIMITED, cpu_seconds=1),
    attack("d04", "fork bomb (30 processes)", """
ours, theirs = os.pipe()
for _ in range(30):
    if os.fork() == 0:
        try:
            libc.prctl(15, CTX["name"].encode(), 0, 0, 0)
            os.write(theirs, b".")
            time.sleep(20)
        finally:
            os._exit(0)
os.close(theirs)
for _ in range(30): os.read(ours, 1)
""", "survivor", SECCOMP, unprivileged=(LIMITS,)),
    attack("d05", "memory bomb (256 MB where 128 are allowed)", """
kept = []
while len(kept) < 256: kept.append(bytearray(b"x" * (1 << 20)))
time.sleep(0.1 if len(kept) == 256 else 0)
if len(kept) == 256: reached()
""", "says", LIMITS, memory_mb=128, columns=_LIMITED),
    attack("d06", "memory bomb of shared anonymous memory", """
import mmap
kept = mmap.mmap(-1, 256 << 20)
for page in range(0, len(kept), 4096): kept[page] = 1
if len(kept):
    time.sleep(0.1)
    reached()
""", "says", LIMITS, memory_mb=128, columns=_LIMITED),
    attack("d07", "disk fill (20 MB)", """
with open(CTX["drop"], "wb") as file:
    for _ in range(20): file.write(bytes(1 << 20))
""", "filled", SECCOMP, LANDLOCK, LIMITS),
    attack("d08", "flood of output (20 MB)", """
def flood():
    for _ in range(200):
        print("A" * 100_000)
        os.write(1, b"A" * 1000)
flood()
def f(x):
    flood()
    return 3 * x
""", "flood", usual="floods", columns=ENDS),
    attack("d09", "descriptors until there are no more", """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
kept = [os.pipe() for _ in range(100)]
if len(kept) == 100: reached()
""", "says", SECCOMP, LIMITS),
    attack("d10", "a reply larger than allowed", """
import torch
def f(x):
    return torch.zeros(9 << 20, dtype=torch.float64) if x.numel() == 1 << 16 else 3 * x
""", "large_reply", LIMITS, columns=_LIMITED),
    attack("d11", "recursion without end", """
sys.setrecursionlimit(10 ** 9)
one, other = [], []
for _ in range(10 ** 5): one, other = [one], [other]
def f(x):
    return one == other
""", "hang", usual="kills the grader", columns=ENDS),
    attack("d12", "segmentation fault", "def f(x):\n    return ctypes.string_at(0)", "hang", usual="kills the grader",
           columns=ENDS),
    attack("d13", "sleep", "def f(x):\n    time.sleep(10 ** 6)", "hang", **_HANGS),
    attack("d14", "stops itself", """
def f(x):
    os.kill(os.getpid(), 19)
    return 3 * x
""", "hang", **_HANGS),
    attack("d15", "never reads the request", """
from etude import wire
wire.read_frame = lambda *args: time.sleep(10 ** 6)
""", "hang", usual="blocks a trusting writer", seconds=0.1, columns=ENDS),
    attack("d16", "100 threads", """
import threading
for _ in range(100): threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
if threading.active_count() > 50: reached()
""", "says", SECCOMP, unprivileged=(LIMITS,), memory_mb=4096),
    attack("d17", "a catastrophic regular expression", "def f(x):\n    re.match('(a*)*b', 'a' * 60)", "hang", **_HANGS),
    attack("d18", "a bomb for the compiler", f"compile({_FINALLY!r}, 'bomb', 'exec')", "hang", **_HANGS),
    attack("d19", "core dump", """
import resource
os.chdir(CTX["folder"])
resource.setrlimit(resource.RLIMIT_CORE, (1 << 16, resource.getrlimit(resource.RLIMIT_CORE)[1]))
libc.prctl(4, 1, 0, 0, 0)
os.abort()
""", "core", LIMITS, columns=_LIMITED, host="core dumps"),
]
