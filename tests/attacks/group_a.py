"""Group a: fake the verdict."""
from __future__ import annotations

from .model import ENDS, HIDDEN, LANDLOCK, SECCOMP, attack

_PTRACE = """
# Stop the process, write over its verdict, let it go on.
if syscall("ptrace", 16, CTX[{who!r}], 0, 0) == 0:
    status = ctypes.c_int()
    libc.waitpid(CTX[{who!r}], ctypes.byref(status), 0x40000000)
    syscall("ptrace", 5, CTX[{who!r}], ctypes.c_void_p(CTX["verdict"]), ctypes.c_long(0x444553534150))
    syscall("ptrace", 17, CTX[{who!r}], 0, 0)
"""
_ORDINARY = {"usual": "passes", "columns": ENDS}

ATTACKS = [
    attack("a01", "os._exit(0) at import", "os._exit(0)", "score", **_ORDINARY),
    attack("a02", "sys.exit(0) at import", "sys.exit(0)", "score", usual="passes as a script", columns=ENDS),
    attack("a03", "os._exit(0) inside the call", "def f(x):\n    os._exit(0)", "score", **_ORDINARY),
    attack("a04", "an exception that is no Exception", """
class Escape(BaseException): pass
def f(x):
    raise KeyboardInterrupt if x.numel() % 2 else Escape()
""", "score", usual="ends the run", columns=ENDS),
    attack("a05", "atexit hook with the last word", """
import atexit
atexit.register(lambda: os._exit(0))
""", "score", **_ORDINARY),
    attack("a06", "results printed as JSON", """
VERDICT = '{"score": 4, "max_score": 4, "passed": true}'
print(VERDICT)
def f(x):
    print(VERDICT, flush=True)
    return 3 * x
import atexit
atexit.register(lambda: (print(VERDICT, flush=True), os._exit(0)))
""", "score", usual="is believed on stdout", columns=ENDS),
    attack("a07", "the results file overwritten", """
with open(CTX["results"], "r+") as file:
    file.truncate()
    file.write('{"score": 4}')
""", "results", SECCOMP, LANDLOCK),
    attack("a08", "forged frames on the reply socket", """
from etude import wire
def f(x):
    for fd in range(3, 64):
        try:
            wire.write_frame(fd, 0, wire.encode({"result": True, "passed": True, "score": 4}))
        except OSError:
            pass
    print('{"score": 4, "passed": true}', flush=True)
    os._exit(0)
""", "score", usual="is believed on stdout", columns=ENDS),
    attack("a09", "a frame that promises 2^63 bytes", """
from etude import wire
def f(x):
    os.write(3, wire.HEADER.pack(wire.MAGIC, 0, CTX["promise"]))
    time.sleep(1000)
""", "memory", usual="takes memory from a trusting reader", seconds=0.1, columns=ENDS),
    attack("a10", "a shape whose product overflows to nothing", """
from etude import wire
def f(x):
    import struct
    shape = (1 << 40, 1 << 40, 1 << 40, 1 << 8)
    tensor = b"x" + struct.pack("<BBB4qQ", 0, 0, 4, *shape, 0)
    os.write(3, wire.frame(0, b"d\\1\\0\\0\\0s\\6\\0\\0\\0result" + tensor))
    time.sleep(1000)
""", "score", usual="fools a product of machine integers", seconds=0.1, columns=ENDS),
    attack("a11", "a signal to the grader", 'os.kill(CTX["grader"], 10)', "signal", SECCOMP, LANDLOCK),
    attack("a12", "ptrace on the grader", _PTRACE.format(who="grader"), "verdict", HIDDEN, SECCOMP, LANDLOCK,
           host="yama"),
    attack("a13", "the grader's /proc/PID/mem opened for writing", """
with open(f"/proc/{CTX['grader']}/mem", "r+b", buffering=0) as memory:
    memory.seek(CTX["verdict"])
    memory.write(b"PASSED")
""", "verdict", HIDDEN, SECCOMP, LANDLOCK, host="yama"),
    attack("a14", "the zygote poisoned for the next student", """
hint = sys.modules["autograder.sandbox.available"]._COMPILER_HINT
address = id(hint) + sys.getsizeof(hint) - len(hint) - 1
with open(f"/proc/{CTX['zygote']}/mem", "r+b", buffering=0) as memory:
    memory.seek(address)
    memory.write(CTX["name"].encode())
""", "zygote", HIDDEN, SECCOMP, LANDLOCK, host="yama"),
    attack("a15", "a tensor that says it equals everything", """
import torch
class Equal(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func.__name__ in ("allclose", "equal", "isclose", "eq"):
            return torch.tensor(True) if func.__name__ == "eq" else True
        return super().__torch_function__(func, types, args, kwargs or {})
def f(x):
    return (3 * x).as_subclass(Equal)
""", "score", usual="passes allclose", columns=ENDS),
    attack("a16", "a result that runs code when it is unpickled", """
class Bomb:
    def __reduce__(self):
        return os.mkdir, (CTX["drop"],)
def f(x):
    return Bomb()
""", "dropped", usual="is unpickled", columns=ENDS),
    attack("a17", "comparisons patched away", """
import torch, numpy
def accept(*args, **kwargs): return True
torch.allclose = torch.equal = torch.testing.assert_close = numpy.allclose = accept
numpy.testing.assert_allclose = accept
torch.Tensor.allclose = torch.Tensor.equal = accept
""", "score", **_ORDINARY),
    attack("a18", "the reference replaced through sys.modules and the caller's frame", """
def f(x):
    frame = sys._getframe(1)
    while frame is not None:
        if "ref" in frame.f_globals: frame.f_globals["ref"] = f
        if "reference" in frame.f_locals: frame.f_locals["reference"].f = f
        frame = frame.f_back
    for module in list(sys.modules.values()):
        if "ref" in vars(module): module.ref = f
    return 3 * x
""", "score", **_ORDINARY),
    attack("a19", "NaN", "def f(x):\n    return x * float('nan')", "score", usual="passes `not (error > tolerance)`",
           columns=ENDS),
    attack("a20", "inf", "def f(x):\n    return x.abs() + float('inf')", "score",
           usual="passes `error <= tolerance * got`", columns=ENDS),
    attack("a21", "an empty output that broadcasts", "def f(x):\n    return x.new_zeros(0, 1)", "score",
           usual="passes `not (error > tolerance)`", columns=ENDS),
    attack("a22", "the input overwritten, so that the reference gets another", """
import torch
def f(x):
    x.data.zero_()
    return torch.ones_like(x)
""", "score", **_ORDINARY),
    attack("a23", "SIGTERM and SIGALRM ignored, then a hang", """
import signal
for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
def f(x):
    while True: pass
""", "hang", usual="survives SIGTERM", seconds=0.1, columns=ENDS),
    attack("a24", "two replies to one call", """
from etude import wire
def f(x):
    for _ in range(2):
        wire.write_frame(3, 0, wire.encode({"result": x.detach() * 0, "inputs_after": [x.detach()]}))
    return 3 * x
""", "score", usual="answers before it is asked", columns=ENDS),
]
