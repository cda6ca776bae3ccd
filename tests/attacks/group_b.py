"""Group b: steal what is secret: the solution, the hidden checks, the grader's memory."""
from __future__ import annotations

from .model import ENDS, HIDDEN, LANDLOCK, SECCOMP, attack

_LEAKS = {"usual": "leaks", "columns": ENDS}

ATTACKS = [
    attack("b01", "read the solution's file", 'loot(open(CTX["solution"], "rb").read())', "loot", SECCOMP, LANDLOCK),
    attack("b02", "read the hidden checks' .pyc", """
for entry in os.scandir(CTX["pycache"]):
    loot(open(entry.path, "rb").read())
""", "loot", SECCOMP, LANDLOCK),
    attack("b03", "read hypothesis' database of examples", """
for folder, _, names in os.walk(CTX["examples"]):
    for name in names:
        loot(open(os.path.join(folder, name), "rb").read())
""", "loot", SECCOMP, LANDLOCK),
    attack("b04", "read the grader's environment",
           """loot(open(f"/proc/{CTX['grader']}/environ", "rb").read())""", "loot", HIDDEN, SECCOMP, LANDLOCK),
    attack("b05", "read the own environment", """
loot(repr(dict(os.environ)))
loot(open("/proc/self/environ", "rb").read())
""", "loot", **_LEAKS),
    attack("b06", "search the grader's memory", """
with open(f"/proc/{CTX['grader']}/maps") as maps, open(f"/proc/{CTX['grader']}/mem", "rb", 0) as memory:
    for line in maps:
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= CTX["buffer"] < end:
            memory.seek(start)
            left = end - start
            while left > 0:
                piece = memory.read(min(left, 1 << 24))
                if not piece: break
                left -= len(piece)
                loot(piece)
""", "loot", HIDDEN, SECCOMP, LANDLOCK),
    attack("b07", "search the own memory for what a fork inherits", """
import gc
for module in list(sys.modules.values()):
    loot(repr([value for value in vars(module).values() if isinstance(value, (str, bytes))]))
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
    for line in maps:
        if " rw-p " in line and ("[heap]" in line or line.split()[4] == "0"):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if end - start <= 1 << 24:
                memory.seek(start)
                try: loot(memory.read(end - start))
                except OSError: pass
""", "loot", **_LEAKS),
    attack("b08", "process_vm_readv on the grader", """
class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
taken = ctypes.create_string_buffer(64)
here = Vector(ctypes.cast(taken, ctypes.c_void_p), 64)
there = Vector(CTX["buffer"], 64)
syscall("process_vm_readv", CTX["grader"], ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
loot(taken.raw)
""", "loot", HIDDEN, SECCOMP, LANDLOCK),
    attack("b09", "read every inherited descriptor", """
for fd in range(64):
    try: loot(os.pread(fd, 4096, 0))
    except OSError: pass
""", "loot", **_LEAKS),
    attack("b10", "pidfd_getfd on the grader's open file", """
grader = syscall("pidfd_open", CTX["grader"], 0)
loot(os.pread(syscall("pidfd_getfd", grader, CTX["secret_fd"], 0), 4096, 0))
""", "loot", HIDDEN, SECCOMP, LANDLOCK, host="yama"),
    attack("b11", "reopen the grader's file through /proc/PID/fd",
           """loot(open(f"/proc/{CTX['grader']}/fd/{CTX['secret_fd']}", "rb").read())""",
           "loot", HIDDEN, SECCOMP, LANDLOCK),
    attack("b12", "gc.get_objects", """
import gc
gc.unfreeze()
texts = []
for thing in gc.get_objects():
    if type(thing) in (dict, list, tuple):
        items = list(thing.values()) if type(thing) is dict else thing
        texts += [item for item in items if type(item) is str]
loot("\\n".join(texts))
""", "loot", **_LEAKS),
    attack("b13", "walk up the frames, and the source of what is found there", """
import inspect, linecache
def walk():
    frame = sys._getframe()
    while frame is not None:
        loot(repr([v for v in [*frame.f_locals.values(), *frame.f_globals.values()] if isinstance(v, (str, bytes))]))
        loot("".join(linecache.getlines(frame.f_code.co_filename)))
        frame = frame.f_back
walk()
def f(x):
    walk()
    return 3 * x
""", "loot", **_LEAKS),
    attack("b14", "list /dev/shm", 'loot("\\n".join(os.listdir("/dev/shm")))', "loot", SECCOMP, LANDLOCK),
    attack("b15", "list the processes' command lines", """
for entry in os.listdir("/proc"):
    if entry.isdigit():
        try: loot(open(f"/proc/{entry}/cmdline", "rb").read())
        except (FileNotFoundError, ProcessLookupError): pass
""", "loot", SECCOMP, LANDLOCK),
    attack("b16", "orders and answers on the zygote's control socket", """
import json, os, socket
mine = os.fstat(3).st_ino  # the worker's own socket, by whatever number: garbage on it would only end the worker
for fd in range(4, 64):
    try:
        if os.fstat(fd).st_ino != mine: socket.socket(fileno=fd).send(json.dumps({"error": CTX["name"]}).encode())
    except OSError: pass
""", "control", usual="speaks to the grader when descriptors leak", columns=ENDS),
]
