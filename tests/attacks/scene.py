"""What is planted around one submission: canaries to reach, secrets to steal, and where each would be seen.

Everything lies in a folder of its own, is bound to the loopback address, or carries a random name, and is gone after
`close()`, whether an attack reached it or not.
"""
from __future__ import annotations

import ctypes
import os
import py_compile
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from autograder.sandbox import libc

from .prelude import NUMBERS

SHM = Path("/dev/shm")
SIGNAL = signal.SIGUSR1
_RESULTS = '{"score": 0}\n'
_IPC_RMID, _KEYCTL_UNLINK, _USER_KEYRING = 0, 9, -4


class Scene:
    """Planted for one submission. `context` is what the attacker knows, which is everything but the secret."""

    def __init__(self, secret: str, pids: dict[str, int], secret_fd: int):
        self.name = "etk" + os.urandom(6).hex()  # at most 15 characters: the kernel cuts names of processes there
        self._stack = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.drop, self.shm_drop, self.results = self.folder / "drop", SHM / self.name, self.folder / "attacker.json"
        self._plant_files(secret)
        self.tcp = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.udp = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.udp.bind(("127.0.0.1", 0))
        self.abstract = self._listen("\0" + self.name)
        self.unix = self._listen(str(self.folder / "docker.sock"))
        for channel in (self.tcp, self.udp):
            channel.setblocking(False)
        self.buffer = ctypes.create_string_buffer(secret.encode(), 64)
        self.verdict = ctypes.create_string_buffer(b"FAILED", 64)
        self.sysv = int.from_bytes(os.urandom(3), "big") + 1
        self.signals = 0
        self._previous = signal.signal(SIGNAL, self._count)
        self._stack.callback(signal.signal, SIGNAL, self._previous)
        self.context: dict[str, Any] = {
            "name": self.name, "folder": str(self.folder), "drop": str(self.drop), "shm_drop": str(self.shm_drop),
            "results": str(self.results), "solution": str(self.folder / "solution.py"),
            "pycache": str(self.folder / "__pycache__"), "examples": str(self.folder / ".hypothesis"),
            "course": str(self.folder), "docker": str(self.folder / "docker.sock"),
            "tcp": self.tcp.getsockname()[1], "udp": self.udp.getsockname()[1], "sysv": self.sysv,
            "buffer": ctypes.addressof(self.buffer), "verdict": ctypes.addressof(self.verdict),
            "secret_fd": secret_fd, "promise": 1 << 63, "nr": NUMBERS, **pids,
        }

    def close(self) -> None:
        """Take away what was planted and what an attack left behind."""
        for pid in self.survivors():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)  # known by its random name to be of this attack
        self.shm_drop.unlink(missing_ok=True)
        self._forget_key()
        with suppress(OSError):
            libc.syscall(NUMBERS["shmctl"], self._sysv_id(), _IPC_RMID, 0)
        self._stack.close()

    def _plant_files(self, secret: str) -> None:
        (self.folder / "solution.py").write_text(f"SECRET = {secret!r}\n")
        py_compile.compile(str(self.folder / "solution.py"), str(self.folder / "__pycache__" / "hidden.pyc"))
        for place in (".hypothesis/examples/0a", ".git/objects/5e", "hidden_checks.py~"):
            (self.folder / place).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / place).write_text(secret)
        (self.folder / "home").mkdir()
        (self.folder / "home" / ".bashrc").touch()
        self.results.write_text(_RESULTS)
        listed = SHM / f"{self.name}-{secret}"
        listed.touch()
        self._stack.callback(listed.unlink)

    def _listen(self, address: str) -> socket.socket:
        server = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(address)
        server.listen()
        server.setblocking(False)
        return server

    def _count(self, *_: object) -> None:
        self.signals += 1

    # ------------------------------------------------------------------------------------------ what can be seen

    def results_changed(self) -> bool:
        return self.results.read_text() != _RESULTS

    def connected(self, server: socket.socket) -> bool:
        """Whether somebody connected, or sent a datagram."""
        try:
            if server.type == socket.SOCK_DGRAM:
                return bool(server.recv(64))
            server.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def survivors(self) -> list[int]:
        """Processes that bear this scene's name."""
        return [pid for pid, name in _processes() if name == self.name]

    def locked(self, pid: int) -> bool:
        """Whether this process has locked a file."""
        locks = (line.split() for line in Path("/proc/locks").read_text().splitlines())
        return any(fields[1] == "FLOCK" and fields[4] == str(pid) for fields in locks)

    def sysv_left(self) -> bool:
        try:
            return self._sysv_id() >= 0
        except OSError:
            return False

    def key_left(self) -> bool:
        return any(self.name in line for line in Path("/proc/keys").read_text().splitlines())

    def _sysv_id(self) -> int:
        return libc.syscall(NUMBERS["shmget"], self.sysv, 0, 0)

    def _forget_key(self) -> None:
        if not Path("/proc/keys").exists() or not self.key_left():
            return
        line = next(line for line in Path("/proc/keys").read_text().splitlines() if self.name in line)
        with suppress(OSError):
            libc.syscall(NUMBERS["keyctl"], _KEYCTL_UNLINK, int(line.split()[0], 16), _USER_KEYRING)


def _processes() -> Iterator[tuple[int, str]]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                yield int(entry), Path(f"/proc/{entry}/comm").read_text().strip()

