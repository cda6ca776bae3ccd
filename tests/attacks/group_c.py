"""Group c: carry something out of the sandbox, or leave something behind in it."""
from __future__ import annotations

from .model import LANDLOCK, LIMITS, SECCOMP, attack

ATTACKS = [
    attack("c01", "TCP connection", """
import socket
socket.socket().connect(("127.0.0.1", CTX["tcp"]))
""", "tcp", SECCOMP, LANDLOCK),
    attack("c02", "UDP datagram", """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"loot", ("127.0.0.1", CTX["udp"]))
""", "udp", SECCOMP),
    attack("c03", "abstract unix socket", """
import socket
socket.socket(socket.AF_UNIX).connect("\\0" + CTX["name"])
""", "abstract", SECCOMP, LANDLOCK),
    attack("c04", "a file dropped in a folder that all may write to",
           'open(CTX["drop"], "w").close()', "dropped", SECCOMP, LANDLOCK),
    attack("c05", "a file dropped in /dev/shm", 'open(CTX["shm_drop"], "w").close()', "dropped_shm", SECCOMP, LANDLOCK),
    attack("c06", "a daemon by double fork", """
ours, theirs = os.pipe()
if os.fork() == 0:
    try:
        os.setsid()
        if os.fork() == 0:
            libc.prctl(15, CTX["name"].encode(), 0, 0, 0)
            os.write(theirs, b".")
            time.sleep(20)
    finally:
        os._exit(0)
os.close(theirs)
os.read(ours, 1)
""", "survivor", SECCOMP, unprivileged=(LIMITS,)),
    attack("c07", "a socket by system call", """
import struct
datagram = syscall("socket", 2, 2, 0)
address = struct.pack("<H", 2) + struct.pack(">H", CTX["udp"]) + bytes([127, 0, 0, 1]) + bytes(8)
syscall("sendto", datagram, ctypes.c_char_p(b"loot"), 4, 0, ctypes.c_char_p(address), 16)
""", "udp", SECCOMP),
    attack("c08", "io_uring, which no system-call filter sees into", """
if syscall("io_uring_setup", 4, ctypes.create_string_buffer(120)) >= 0: reached()
""", "says", SECCOMP, host="io_uring"),
    attack("c09", "a key in the kernel's keyring", """
syscall("add_key", ctypes.c_char_p(b"user"), ctypes.c_char_p(CTX["name"].encode()), ctypes.c_char_p(b"loot"), 4, -4)
""", "key", SECCOMP, host="keyrings"),
    attack("c10", "System V shared memory", """
syscall("shmget", CTX["sysv"], 4096, 0o1600)
""", "sysv", SECCOMP, host="System V memory"),
    attack("c11", "another program executed", """
os.execv("/bin/sh", ["sh", "-c", ": > " + CTX["drop"]])
""", "dropped", SECCOMP, LANDLOCK),
    attack("c12", "the 32-bit system calls of a 64-bit kernel", """
import mmap
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))  # mov eax, getpid; int 0x80; ret
if ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))() == os.getpid():
    reached()
""", "says", SECCOMP, host="32-bit system calls"),
    attack("c13", "a user namespace, to have capabilities again", """
if syscall("unshare", 0x10000000) == 0: reached()
""", "says", SECCOMP, host="user namespaces"),
    attack("c14", "a lock on a descriptor as a covert channel", 'syscall("flock", 0, 5)', "lock", SECCOMP),
    attack("c15", "a signal to another student's worker", 'os.kill(CTX["neighbour"], 9)', "neighbour",
           SECCOMP, LANDLOCK),
]
