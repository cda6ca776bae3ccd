"""What staff see in formgrader, in a real browser: scores, partial credit, our card, and no hidden test."""
from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))

from lab import CHROMIUM, PATIENCE_MS, PICTURES, await_server, free_port, private_environment
from tiny_course import CHECKS

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"formgrader was not looked at: there is no {CHROMIUM}; "
                                "apt-get install -y --no-install-recommends chromium")
DETACHED = "def scale(x, factor):\n    return (factor * x).detach()"
"""Passes the public check of 1 point, and not the hidden one of 3."""
SCRIPT = "def center(x):\n    raise ValueError('<img src=x onerror=\"document.title = 0\"> was here')"
HIDDEN = [line.strip() for line in CHECKS.splitlines() if "assert_equivalent(" in line]


@pytest.fixture(scope="module")
def formgrader(directory: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and token of a formgrader over a course directory in which two collected notebooks are autograded."""
    directory.submit("ann", directory.filled())
    directory.submit("bob", directory.filled(scale=DETACHED, center=SCRIPT))
    run = directory.autograde()
    assert run["success"], run
    private = tmp_path_factory.mktemp("private")
    port, token = free_port(), secrets.token_hex(8)
    extensions = {"nbgrader.server_extensions.formgrader": True}
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ip=127.0.0.1",
               f"--port={port}", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={directory.path}",
               f"--ServerApp.jpserver_extensions={extensions}"]
    with (private / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=private_environment(private), stdout=log, stderr=log, cwd=directory.path)
        try:
            await_server(f"http://127.0.0.1:{port}/api/status?token={token}", server, private / "server.log")
            yield f"http://127.0.0.1:{port}/formgrader", token
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture
def page(chromium: Any, formgrader: tuple[str, str]) -> Iterator[Callable[[str], Any]]:
    """`page("/gradebook")`: that page of formgrader."""
    address, token = formgrader
    opened = chromium.new_page(viewport={"width": 1200, "height": 1100},
                              extra_http_headers={"Authorization": f"token {token}"})
    opened.set_default_timeout(PATIENCE_MS)
    opened.route(lambda url: not url.startswith("http://127.0.0.1:"), lambda route: route.abort())  # MathJax, of a CDN

    def goto(path: str) -> Any:
        opened.goto(address + path)
        return opened
    yield goto
    opened.close()


def opened_submission(page: Callable[[str], Any], directory: Any, student: str) -> Any:
    """A submission's page, when the scores have come."""
    with directory.gradebook() as book:
        number = book.find_submission_notebook("tiny", "tiny", student).id
    opened = page(f"/submissions/{number}")
    opened.wait_for_function("() => document.querySelector('#check_center')?.placeholder")
    return opened


def test_the_gradebook_has_the_scores_with_partial_credit(page: Callable[[str], Any]) -> None:
    opened = page("/gradebook/tiny/tiny")
    opened.get_by_text("Submission #2").first.wait_for()
    rows = opened.locator("tbody tr").all_inner_texts()  # in an order that hides who is who
    totals = sorted(row.split("\t")[2] for row in rows)
    assert totals == ["1 / 18", "6 / 18"], "6 points of ours, 12 of the instructor's"


def test_a_submission_has_its_scores_and_our_cards(page: Callable[[str], Any], directory: Any) -> None:
    opened = opened_submission(page, directory, "bob")
    scores = {name: opened.locator(f"#{name}").get_attribute("placeholder") for name in ("check_scale", "check_center")}
    assert scores == {"check_scale": "1", "check_center": "0"}
    cards = opened.locator(".etude-report")
    assert cards.count() == 2 and cards.first.is_visible()
    text = " ".join(cards.first.inner_text().split())
    assert "Scaling 1 / 4" in text and "hidden 0 / 3" in text
    assert "This is what you get when the result is detached" in text
    border = cards.first.evaluate("card => getComputedStyle(card).borderLeftWidth")
    assert border == "4px", "the card has its style"
    PICTURES.mkdir(parents=True, exist_ok=True)
    opened.screenshot(path=PICTURES / "formgrader.png", full_page=True)


def test_no_hidden_test_is_seen_and_nothing_of_the_students_acts(page: Callable[[str], Any], directory: Any) -> None:
    opened = opened_submission(page, directory, "bob")
    source = opened.content()
    assert HIDDEN and not [line for line in HIDDEN if line in source]
    assert "test_scale_values_and_gradients" not in source and "assert_equivalent" not in source
    assert 'check("scale")' in opened.locator("body").inner_text(), "the cell that students have"
    assert "<img src=x" in opened.locator(".etude-report").last.inner_text(), "shown, not made"
    assert opened.locator("img[src=x]").count() == 0 and opened.title() == "tiny"


def test_full_marks_are_full_marks(page: Callable[[str], Any], directory: Any) -> None:
    opened = opened_submission(page, directory, "ann")
    assert opened.locator("#check_scale").get_attribute("placeholder") == "4"
    assert opened.locator(".etude-report .failed").count() == 0
