"""The Validate button: our cards in nbgrader's dialog, from a process of their own."""
from __future__ import annotations

import asyncio
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from tornado import httputil, web

from etude import server_extension as extension

ROOT = Path(__file__).resolve().parents[2]


def run(coroutine):
    """In a thread of its own: the browser tests may have left an event loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def validate(root, path):
    return run(extension.validate(str(root), path))


def test_a_notebook_is_validated_by_its_public_checks_while_the_server_goes_on(tmp_path):
    folder = tmp_path / "attention"
    shutil.copytree(ROOT / "assignments" / "attention", folder)
    shutil.copy(ROOT / "tests" / "sample_class" / "dan" / "attention" / "attention.ipynb", folder)
    ticks = []

    async def both():
        async def clock():
            while True:
                await asyncio.sleep(0.02)
                ticks.append(1)
        ticking = asyncio.create_task(clock())
        answer = await extension.validate(str(tmp_path), "attention/attention.ipynb")
        ticking.cancel()
        return answer
    answer = run(both())
    assert answer["success"] is True and len(ticks) > 5
    failed = {one["source"]: one for one in answer["value"]["failed"]}
    assert "Sparsemax (sparsemax): not started: the TODO is still there" in failed and len(failed) == 4
    assert all("etude-card" in one["error"] and one["raw_error"] for one in failed.values())


def answer_for(code, findings=(), err=b""):
    out = json.dumps({"passed": not findings, "findings": list(findings)}).encode()
    return extension._answer(code, out, err)


@pytest.mark.parametrize("answer, expected", [
    (answer_for(0), {"success": True, "value": {}}),
    (answer_for(2, err=b"etude: x.ipynb: no such file\n"), {"success": False, "value": "etude: x.ipynb: no such file"}),
    (answer_for(-9), {"success": False, "value": "The checks ended with exit code -9."}),
    (extension._answer(1, b"printed by someone", b"Traceback\nlast"), {"success": False, "value": "last"}),
])
def test_the_answer_is_what_nbgraders_dialog_reads(answer, expected):
    assert answer == expected


def test_only_what_fails_is_listed():
    one = {"exercise": "a", "title": "A", "state": "all hold", "html": "<p>", "text": "t", "passed": True}
    other = one | {"exercise": "b", "title": "B", "state": "none holds", "passed": False}
    assert [each["source"] for each in answer_for(1, [one, other])["value"]["failed"]] == ["B (b): none holds"]


@pytest.mark.parametrize("path", ["../secret.ipynb", "a/../../secret.ipynb"])
def test_nothing_outside_of_the_servers_folder_is_run(path, tmp_path):
    (tmp_path / "secret.ipynb").write_text("{}")
    (tmp_path / "root" / "a").mkdir(parents=True)
    with pytest.raises(web.HTTPError) as refused:
        validate(tmp_path / "root", path)
    assert refused.value.status_code == 403


@pytest.mark.parametrize("ours_first", [True, False])
def test_our_handler_comes_first_whichever_extension_is_loaded_first(ours_first):
    class Theirs(web.RequestHandler):
        pass
    application = web.Application([], base_url="/")
    server = SimpleNamespace(web_app=application, log=SimpleNamespace(info=lambda text: None))
    steps = [lambda: extension._load_jupyter_server_extension(server),
             lambda: application.add_handlers(".*$", [("/assignments/validate", Theirs)])]
    for step in steps if ours_first else reversed(steps):
        step()
    request = httputil.HTTPServerRequest(
        start_line=httputil.RequestStartLine("POST", "/assignments/validate", "HTTP/1.1"),
        headers=httputil.HTTPHeaders({"Host": "localhost"}))
    request.connection = SimpleNamespace(set_close_callback=lambda callback: None)
    assert application.find_handler(request).handler_class is extension.ValidateHandler


def test_the_extension_is_enabled_by_what_is_installed():
    config = json.loads((ROOT / "lib/etude/jupyter_server_config.d/etude.json").read_text())
    module = extension._jupyter_server_extension_points()[0]["module"]
    assert config["ServerApp"]["jpserver_extensions"] == {module: True}
    assert "JUPYTER_CONFIG_PATH=$(CURDIR)/lib/etude" in (ROOT / "Makefile").read_text()
