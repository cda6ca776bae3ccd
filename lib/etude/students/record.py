"""What is done, in a small file beside the notebooks: `.etude_progress.json`. It stays on the student's machine.

`check` writes it and `progress` shows it. It decides nothing: deleting it loses the overview and no points.
"""
from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from etude.students.card_html import card
from etude.students.display import Message
from etude.students.findings import Finding
from etude.students.released import FACTS, Release, read_json

FILE = ".etude_progress.json"
SCHEMA = 1


# ---------------------------------------------------------------------------------------------- the file

def read(folder: Path) -> dict[str, dict[str, Any]]:
    """What is known about each exercise of the folder's notebooks: `held`, `of`, `when`, `hints`."""
    found = read_json(folder / FILE).get("exercises")
    return {id: one for id, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}


def record_findings(folder: Path, findings: Iterable[Finding]) -> None:
    """Remember what came of a check."""
    known = read(folder)
    today = time.strftime("%Y-%m-%d")
    for one in findings:
        entry = known.setdefault(one.exercise, {})
        entry |= {"held": one.held, "of": len(one.properties), "when": today, "not_run": bool(one.not_run)}
    _write(folder, known)


def record_hint(folder: Path, exercise: str, shown: int) -> None:
    """Remember how many hints have been asked for."""
    known = read(folder)
    known.setdefault(exercise, {})["hints"] = shown
    _write(folder, known)


def _write(folder: Path, exercises: dict[str, dict[str, Any]]) -> None:
    temporary = folder / f"{FILE}.{os.getpid()}"
    try:
        temporary.write_text(json.dumps({"schema": SCHEMA, "exercises": exercises}, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, folder / FILE)
    except OSError:  # a read-only folder is no reason to withhold the card
        temporary.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------- the card

@dataclass(frozen=True)
class _Unit:
    title: str
    total: int
    passed: int | None
    """None: its folder is not here."""


def overview(folder: Path, releases: list[Release]) -> Message:
    """The state of the unit's exercises and, below, of the course's units that lie beside it."""
    known = read(folder)
    rows = [(release.title(id), id, *_state(known.get(id, {}))) for release in releases for id in release.exercises]
    units = list(_units(folder, releases))
    title = " and ".join(str(release.facts.get("title", release.name)) for release in releases)
    done = sum(passed for *_, passed in rows)
    head = f"{title}: {done} of {len(rows)} exercises hold all their public properties"
    text = [head, *(f"  {'✓' if passed else '·'} {name} ({id}): {says}" for name, id, says, passed in rows)]
    if len(units) > 1:
        text += ["", "The course:", *(f"  {unit.title}: {_unit_state(unit)}" for unit in units)]
    return Message("\n".join(text), _html(head, done, rows, units), _markdown(head, rows, units))


def _state(entry: dict[str, Any]) -> tuple[str, bool]:
    held, of = entry.get("held"), entry.get("of")
    hints = f", {entry['hints']} hint{'s' * (entry['hints'] != 1)}" if entry.get("hints") else ""
    if not isinstance(held, int) or not isinstance(of, int) or not of:
        return f"not checked yet{hints}", False
    if entry.get("not_run"):
        return f"not started{hints}", False
    return f"{held} of {of} properties hold, checked on {entry.get('when', '?')}{hints}", held == of


def _units(folder: Path, releases: list[Release]) -> Iterator[_Unit]:
    course: dict[str, Any] = releases[0].facts.get("units", {}) if releases else {}
    for id, unit in course.items():
        beside = folder if id == releases[0].facts.get("unit") else folder.parent / id
        here = (beside / f"{unit['notebook']}{FACTS}").exists()
        passed = sum(_state(entry)[1] for entry in read(beside).values()) if here else None
        yield _Unit(str(unit["title"]), int(unit["exercises"]), passed)


def _unit_state(unit: _Unit) -> str:
    return f"{unit.total} exercises, not here" if unit.passed is None else f"{unit.passed} of {unit.total} exercises"


def _html(head: str, done: int, rows: list[tuple[str, str, str, bool]], units: list[_Unit]) -> str:
    body = [f'<p class="etude-head"><strong>{escape(head)}</strong></p>',
            f'<p><progress value="{done}" max="{max(len(rows), 1)}" aria-label="{escape(head)}"></progress></p>',
            '<table class="etude-list"><caption class="etude-unseen">Exercises of this unit</caption><thead><tr>'
            '<th scope="col">Exercise</th><th scope="col">State</th></tr></thead><tbody>']
    for name, id, says, passed in rows:
        body.append(f'<tr><th scope="row">{escape(name)} <code>{escape(id)}</code></th>'
                    f'<td><div class="etude-line"><span class="etude-sign etude-{"yes" if passed else "calm"}" '
                    f'aria-hidden="true">{"✓" if passed else "·"}</span>{escape(says)}</div></td></tr>')
    body.append("</tbody></table>")
    if len(units) > 1:
        body.append('<table class="etude-list"><caption>The course</caption><thead><tr><th scope="col">Unit</th>'
                    '<th scope="col">Done</th></tr></thead><tbody>')
        body += [f'<tr><th scope="row">{escape(unit.title)}</th><td>{_unit_state(unit)}</td></tr>' for unit in units]
        body.append("</tbody></table>")
    return card("".join(body), head, "good" if rows and done == len(rows) else "plain")


def _markdown(head: str, rows: list[tuple[str, str, str, bool]], units: list[_Unit]) -> str:
    lines = [f"**{head}**", "", "| exercise | | state |", "|---|---|---|"]
    lines += [f"| {name} | `{id}` | {'✓ ' if passed else ''}{says} |" for name, id, says, passed in rows]
    if len(units) > 1:
        lines += ["", "| unit | done |", "|---|---|", *(f"| {u.title} | {_unit_state(u)} |" for u in units)]
    return "\n".join(lines)
