"""A Jupyter server extension: nbgrader's Validate button runs our public checks.

nbgrader's own handler executes the notebook inside the server, which answers nobody meanwhile. Here the checks run in
a process of their own, `etude check --json`, and the server waits for it as it waits for everything else.
"""
from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

MAX_SECONDS = 900.0
"""The checks end themselves after the course's limits; this is for what they cannot interrupt."""
ROUTE = r"/assignments/validate"


class ValidateHandler(JupyterHandler):
    """POST `path`: the findings, as nbgrader's front end reads them."""

    @web.authenticated
    async def post(self) -> None:
        path = self.get_argument("path", None) or (self.get_json_body() or {}).get("path", "")
        self.finish(json.dumps(await validate(self.settings["server_root_dir"], str(path))))


async def validate(root: str, path: str) -> dict[str, Any]:
    """`{"success": True, "value": {}}` if all properties hold; otherwise the cards, or why there are none."""
    top = Path(root).expanduser().resolve()
    notebook = (top / path.lstrip("/")).resolve()
    if not notebook.is_relative_to(top):
        raise web.HTTPError(403, "The notebook lies outside of the server's folder.")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "etude.cli", "check", "--json", str(notebook), cwd=str(notebook.parent),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    try:
        out, err = await asyncio.wait_for(process.communicate(), MAX_SECONDS)
    except TimeoutError:
        return {"success": False, "value": f"The checks were ended after {MAX_SECONDS:g} seconds."}
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return _answer(process.returncode, out, err)


def _answer(code: int | None, out: bytes, err: bytes) -> dict[str, Any]:
    try:
        found = json.loads(out) if code in (0, 1) else None
    except ValueError:
        found = None
    if found is None:
        said = err.decode("utf-8", "replace").strip().splitlines()
        return {"success": False, "value": said[-1] if said else f"The checks ended with exit code {code}."}
    failed = [{"source": f"{one['title']} ({one['exercise']}): {one['state']}",
               # The front end shows `error` as HTML inside <pre>.
               "error": f'<div style="white-space: normal">{one["html"]}</div>', "raw_error": one["text"]}
              for one in found["findings"] if not one["passed"]]
    return {"success": True, "value": {"failed": failed} if failed else {}}


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "etude.server_extension"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Put our handler before nbgrader's, whichever of the two is loaded first."""
    application = server.web_app
    application.add_handlers(".*$", [(url_path_join(application.settings["base_url"], ROUTE), ValidateHandler)])
    rules = application.default_router.rules
    rules.insert(0, rules.pop(-2))  # add_handlers has put it before the last one, which matches everything
    server.log.info("etude: Validate runs the public checks")
