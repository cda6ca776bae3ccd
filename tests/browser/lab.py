"""JupyterLab in a real browser: a server with settings of its own, and a page with what a person does in it."""
from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
NO_CHROMIUM = (f"THE BROWSER TESTS DID NOT RUN: there is no {CHROMIUM}; "
               "apt-get install -y --no-install-recommends chromium")
ARGUMENTS = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
             "--disable-component-update --disable-sync").split()
PATIENCE_MS = 180_000
"""What a person would not wait for: a test that waits so long has found that something does not come at all."""
PICTURES = ROOT / "results" / "browser"
READY = """async () => {
    const app = window.jupyterapp;
    if (!app) return false;
    await app.restored;
    const panel = app.shell.currentWidget;
    if (!panel || !panel.context) return false;
    await panel.context.ready;
    await panel.sessionContext.ready;
    return panel.sessionContext.session?.kernel?.status === "idle";
}"""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def private_environment(private: Path) -> dict[str, str]:
    """This environment, with Jupyter's folders under `private`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "JPY", "PYTEST"))}
    return environment | {f"JUPYTER_{kind}_DIR": str(private / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}


@contextmanager
def lab_server(folder: Path, private: Path) -> Iterator[str]:
    """A JupyterLab over `folder`; its address, token included. Nothing of the user's own settings takes part."""
    port, token, environment = free_port(), secrets.token_hex(8), private_environment(private)
    settings = private / "settings"
    notes = settings / "@jupyterlab" / "apputils-extension"
    notes.mkdir(parents=True)
    (notes / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    environment |= {"JUPYTERLAB_SETTINGS_DIR": str(settings), "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
                    "IPYTHONDIR": str(private / "ipython"), "JUPYTER_CONFIG_PATH": str(ROOT / "lib" / "etude")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
               f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
               "--LabApp.expose_app_in_browser=True"]
    log = (private / "server.log").open("w")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        await_server(f"http://127.0.0.1:{port}/api/status?token={token}", server, private / "server.log")
        yield f"http://127.0.0.1:{port}/lab/tree/{{path}}?reset&token={token}"
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def await_server(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")


class Notebook:
    """An open notebook, by what a person does with it. Cells are named by their nbgrader id or their number."""

    def __init__(self, page: Any, file: Path):
        self.page, self.file = page, file

    def open(self, address: str) -> None:
        self.page.goto(address.format(path=self.file.name))
        end = time.monotonic() + PATIENCE_MS / 1000
        while not self.page.evaluate(READY):
            if time.monotonic() > end:
                raise RuntimeError("the notebook did not open")
            self.page.wait_for_timeout(100)

    def cell(self, name: str | int) -> Any:
        """The cell's place on the page, in view and chosen: JupyterLab draws only what is in view."""
        index = name if isinstance(name, int) else self._index(name)
        self.page.evaluate("""async index => {
            const notebook = window.jupyterapp.shell.currentWidget.content;
            notebook.activeCellIndex = index;
            await notebook.scrollToItem(index, "smart");
        }""", index)
        cell = self.page.locator(f'.jp-Notebook-cell[data-windowed-list-index="{index}"]')
        cell.wait_for(state="attached")
        return cell

    def run(self, name: str | int) -> Any:
        """Click into the cell, press Shift+Enter, wait until the kernel has nothing more to do; the cell."""
        before = self._executions()
        cell = self.cell(name)
        cell.locator(".cm-content").first.click()
        self.page.keyboard.press("Shift+Enter")
        self.page.wait_for_function("""before => {
            const panel = window.jupyterapp.shell.currentWidget;
            const counts = panel.content.widgets.map(w => w.model.executionCount || 0);
            const running = panel.content.widgets.some(w => w.model.executionState === "running");
            return Math.max(...counts) > before && !running
                && panel.sessionContext.session.kernel.status === "idle";
        }""", arg=before)
        return self.cell(name)

    def write(self, name: str | int, source: str) -> None:
        """Replace what stands in the cell, as by select-all and paste."""
        self.cell(name).locator(".cm-content").first.click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(source)

    def save(self) -> dict[str, Any]:
        """Save with the keyboard; the notebook as it then stands in the file."""
        self.page.keyboard.press("Control+s")
        self.page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
        return self.saved()

    def saved(self) -> dict[str, Any]:
        return json.loads(self.file.read_text(encoding="utf-8"))

    def theme(self, name: str) -> None:
        self.page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        light = "true" if name.endswith("Light") else "false"
        self.page.wait_for_function(f"() => document.body.dataset.jpThemeLight === '{light}'")
        self.page.wait_for_function("() => document.fonts.status === 'loaded'")

    def picture(self, name: str, of: Any = None) -> Path:
        """A screenshot under results/browser, for people to look at."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        path = PICTURES / f"{name}.png"
        (of or self.page).screenshot(path=path)
        return path

    def _index(self, grade_id: str) -> int:
        ids = [cell["metadata"].get("nbgrader", {}).get("grade_id") for cell in self.saved()["cells"]]
        return ids.index(grade_id)

    def _executions(self) -> int:
        return self.page.evaluate("""() => Math.max(0, ...window.jupyterapp.shell.currentWidget.content.widgets
            .map(w => w.model.executionCount || 0))""")
