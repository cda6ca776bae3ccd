"""One JupyterLab for all browser tests; their chromium is in tests/conftest.py."""
from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lab import NO_CHROMIUM, PATIENCE_MS, ROOT, Notebook, lab_server

CLOSING = ["hint('sdpa_masked')", "progress()", "check()"]
"""Cells that a student adds at the end."""


@pytest.fixture(scope="session")
def unit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a student has it: the released unit, with three cells of their own at the end."""
    folder = tmp_path_factory.mktemp("student")
    for path in (ROOT / "assignments" / "attention").iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, folder)
    notebook = folder / "attention.ipynb"
    value = json.loads(notebook.read_text(encoding="utf-8"))
    value["cells"] += [{"cell_type": "code", "id": f"own-{i}", "metadata": {}, "source": source, "outputs": [],
                        "execution_count": None} for i, source in enumerate(CLOSING)]
    notebook.write_text(json.dumps(value), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def notebook(chromium: Any, unit: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    with lab_server(unit, tmp_path_factory.mktemp("private")) as address:
        page = chromium.new_page(viewport={"width": 1200, "height": 1300})
        page.set_default_timeout(PATIENCE_MS)
        opened = Notebook(page, unit / "attention.ipynb")
        opened.open(address)
        yield opened
        page.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if any(NO_CHROMIUM in str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])):
        terminalreporter.section("browser", red=True, bold=True)
        terminalreporter.line(NO_CHROMIUM, red=True, bold=True)
