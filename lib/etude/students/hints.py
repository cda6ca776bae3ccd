"""`hint("exercise")`: one hint more each time, the most general first."""
from __future__ import annotations

import re
from html import escape
from pathlib import Path

from etude.students import record
from etude.students.card_html import card
from etude.students.display import Message
from etude.students.released import Release


def next_hint(folder: Path, releases: list[Release], exercise: str) -> Message:
    """The hints that were asked for before, and one more; how many is kept with the progress."""
    known = [id for release in releases for id in release.exercises]
    if exercise not in known:
        has = f"; this notebook has {', '.join(known)}." if known else "."
        return Message(f"No exercise is called {exercise}{has}")
    hints = next(release.hints(exercise) for release in releases if exercise in release.exercises)
    title = next(release.title(exercise) for release in releases if exercise in release.exercises)
    if not hints:
        return Message(f"There are no hints for {title}. The theory above the exercise says what to watch for.")
    asked = record.read(folder).get(exercise, {}).get("hints", 0)
    shown = min((asked if isinstance(asked, int) else 0) + 1, len(hints))
    record.record_hint(folder, exercise, shown)
    return _message(title, exercise, hints[:shown], len(hints))


def _message(title: str, exercise: str, hints: list[str], total: int) -> Message:
    head = f"{title}: hint {len(hints)} of {total}"
    more = f'hint("{exercise}") once more gives the next.' if len(hints) < total else "That was the last one."
    text = "\n".join([head, *(f"  {i}. {one}" for i, one in enumerate(hints, 1)), f"  {more}"])
    items = "".join(f"<li>{i}. {_inline(one)}</li>" for i, one in enumerate(hints, 1))
    html = card(f'<p class="etude-head"><strong>{escape(head)}</strong></p><ul>{items}</ul>'
                f'<div class="etude-foot"><p>{escape(more)}</p></div>', head)
    markdown = "\n".join([f"**{head}**\n", *(f"{i}. {one}" for i, one in enumerate(hints, 1)), f"\n{more}"])
    return Message(text, html, markdown)


def _inline(hint: str) -> str:
    """The two marks that hints use, `code` and *stress*, as HTML."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(hint, quote=False))
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)
