"""What `check`, `hint` and `progress` return: a card, which a notebook shows as HTML and a terminal as text."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from etude.students import card_html, card_text
from etude.students.findings import Finding


class Card:
    """The findings about one or more exercises."""

    def __init__(self, findings: Sequence[Finding], seconds: float = 0.0):
        self.findings, self.seconds = list(findings), seconds

    @property
    def passed(self) -> bool:
        """All public properties of all exercises hold."""
        return bool(self.findings) and all(finding.passed for finding in self.findings)

    @property
    def example(self) -> dict[str, Any]:
        """The arguments, by name, of the first example that fails; empty if none does."""
        return next((dict(finding.arguments) for finding in self.findings if finding.arguments), {})

    def __repr__(self) -> str:
        return card_text.text(self.findings)

    def _repr_markdown_(self) -> str:
        return card_text.markdown(self.findings)

    def _repr_html_(self) -> str:
        return card_html.findings_html(self.findings, self.seconds)


class Message:
    """A card that only says something; `html` and `markdown` where plain lines are not enough."""

    passed = False

    def __init__(self, text: str, html: str = "", markdown: str = ""):
        self.text, self._html, self._markdown = text, html, markdown

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self._markdown or "```text\n" + self.text.replace("```", "'''") + "\n```"

    def _repr_html_(self) -> str:
        return self._html or card_html.message_html(self.text)
