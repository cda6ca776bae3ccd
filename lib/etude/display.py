"""What `check` shows: one card, as HTML for the notebook, as Markdown and as plain text."""
from __future__ import annotations

import html
from collections.abc import Sequence

from etude.engine import Outcome, failure_text

_STYLE = {
    "card": "border:1px solid #888;border-radius:6px;padding:.6em .9em;max-width:46em",
    "hint": "margin:.2em 0 .4em 1.6em;opacity:.85",
    "code": "white-space:pre-wrap;font-family:monospace",
}


class Card:
    """The outcomes of an exercise's public checks."""

    def __init__(self, outcomes: Sequence[Outcome], seconds: float = 0.0, note: str = ""):
        self.outcomes, self.seconds, self.note = list(outcomes), seconds, note

    @classmethod
    def message(cls, text: str) -> Card:
        """A card that only says something."""
        return cls([], note=text)

    @property
    def passed(self) -> bool:
        """All checks hold."""
        return bool(self.outcomes) and all(outcome.passed for outcome in self.outcomes)

    def _headline(self) -> str:
        held = sum(outcome.passed for outcome in self.outcomes)
        names = ", ".join(dict.fromkeys(outcome.check.exercise for outcome in self.outcomes))
        return f"{names}: {held} of {len(self.outcomes)} properties hold"

    def __repr__(self) -> str:
        if self.note:
            return self.note
        lines = [self._headline()]
        for outcome in self.outcomes:
            lines.append(f"  {'✓' if outcome.passed else '✗'} {outcome.check.title}")
            lines += [f"      {line}" for line in _explanation(outcome)]
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        return "```text\n" + repr(self).replace("```", "'''") + "\n```"

    def _repr_html_(self) -> str:
        if self.note:
            return f'<div role="status" style="{_STYLE["card"]}">{html.escape(self.note)}</div>'
        rows = "".join(_row(outcome) for outcome in self.outcomes)
        return (f'<div role="status" style="{_STYLE["card"]}"><strong>{html.escape(self._headline())}</strong>'
                f'<ul style="list-style:none;padding-left:0;margin:.4em 0 0">{rows}</ul></div>')


def _row(outcome: Outcome) -> str:
    mark = "✓ holds:" if outcome.passed else "✗ fails:"
    title = f"<span>{mark}</span> {html.escape(outcome.check.title)}"
    if outcome.passed:
        return f"<li>{title}</li>"
    lines = "<br>".join(html.escape(line) for line in _explanation(outcome))
    return f'<li><strong>{title}</strong><div style="{_STYLE["hint"]}{";"}{_STYLE["code"]}">{lines}</div></li>'


def _explanation(outcome: Outcome) -> list[str]:
    if outcome.failure is None:
        return []
    what, hint = failure_text(outcome.failure)
    example = [f"for {', '.join(map(repr, outcome.case.values()))}"] if outcome.case else []
    return [what, *example, *([hint] if hint else [])]
