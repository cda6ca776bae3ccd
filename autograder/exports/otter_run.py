"""`otter run` for files that may be no notebook at all.

Otter reads the notebook before it asks any plugin, and ends with a traceback and no results.json if it cannot. So it is
tried here first, by what otter itself calls; what it can read is otter's.
"""
from __future__ import annotations

import json
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from autograder.errors import UsageError
from autograder.files import write_atomically
from autograder.one_line import one_line

MAX_BYTES = 64 << 20
"""A notebook that is larger than this, unpacked, is not tried."""


def run_otter(autograder: Path, submission: Path, to: Path) -> str:
    """Write `to`/results.json; returns why there is nothing to grade, or nothing.

    Raises `UsageError` if the zip for `otter run` is none of ours or the submission is not there.
    """
    if find_spec("otter") is None:
        raise UsageError("otter-grader is not installed: pip install otter-grader")
    config = _configuration(autograder)
    if not submission.is_file():
        raise UsageError(f"{submission}: no such file")
    to.mkdir(parents=True, exist_ok=True)
    problem = _unreadable(submission, config)
    if problem:
        from autograder.exports.otter_plugin import for_gradescope
        result = for_gradescope(None, f"This submission could not be read: {problem}")
        write_atomically(to / "results.json", json.dumps(result, indent=2) + "\n")
        return problem
    from otter.run import main
    main(str(submission), autograder=str(autograder), output_dir=str(to), no_logo=True)
    return ""


def _configuration(autograder: Path) -> dict[str, Any]:
    from autograder.exports.otter import PLUGIN
    try:
        with zipfile.ZipFile(autograder) as archive:
            plugins = json.loads(archive.read("otter_config.json"))["plugins"]
        return next(one[PLUGIN] for one in plugins if PLUGIN in one)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError, StopIteration):
        raise UsageError(f"{autograder}: expected the autograder.zip that `autograder export otter` wrote") from None


def _unreadable(submission: Path, config: dict[str, Any]) -> str:
    """Why otter cannot read the notebook; nothing where it can, or says itself what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            name, data = _notebook(submission)
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            return f"{submission.name}: not a readable zip: {one_line(str(error))}"
        if not name:
            return ""
        path = Path(folder) / name
        path.write_bytes(data)
        try:
            _as_otter_reads(path)
        except Exception as error:  # whatever ends otter
            return _reason(path, config) or f"{name}: not a notebook: {one_line(str(error))[:200]}"
    return ""


def _notebook(submission: Path) -> tuple[str, bytes]:
    """The one notebook that otter would grade, by name; no name where it would find another number of them."""
    if submission.suffix != ".zip":
        return (submission.name, submission.read_bytes()) if submission.suffix == ".ipynb" else ("", b"")
    with zipfile.ZipFile(submission) as archive:
        found = [entry for entry in archive.infolist() if "/" not in entry.filename and
                 entry.filename.endswith(".ipynb") and not entry.filename.startswith(".")]
        if len(found) != 1:
            return "", b""
        with archive.open(found[0]) as file:
            data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise RuntimeError(f"{found[0].filename} is larger than {MAX_BYTES >> 20} MiB")
    return found[0].filename, data


def _as_otter_reads(path: Path) -> None:
    import nbformat
    from otter.nbmeta_config import NBMetadataConfig
    NBMetadataConfig.from_notebook(nbformat.read(path, as_version=nbformat.NO_CONVERT))
    nbformat.read(path, as_version=4)


def _reason(path: Path, config: dict[str, Any]) -> str:
    """In the words of `autograder grade`."""
    from autograder.course import load_course
    from autograder.submission.reader import read_submissions
    _, problems = read_submissions([path], load_course(Path(config["course"])), unit=config["unit"], student="student")
    return problems[0].message if problems else ""
