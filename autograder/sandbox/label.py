"""Whether the seal holds on this machine: observed, not assumed."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autograder.sandbox.canary import ATTEMPTS

ENFORCED, ADVISORY = "ENFORCED", "ADVISORY"
_REFUSALS = ("EPERM", "EACCES")


@dataclass(frozen=True)
class Label:
    """`ENFORCED` or `ADVISORY`, with what the canary saw and which layers its worker had."""

    name: str
    evidence: Mapping[str, str]
    layers: Sequence[str]

    @property
    def enforced(self) -> bool:
        return self.name == ENFORCED


def judge(evidence: Mapping[str, str], layers: Sequence[str]) -> Label:
    """`ENFORCED` only if every attempt was seen to be refused; a missing or an odd outcome does not count."""
    refused = all(evidence.get(attempt) in _REFUSALS for attempt in ATTEMPTS)
    return Label(ENFORCED if refused else ADVISORY, dict(evidence), list(layers))


def parse(report: bytes) -> dict[str, str]:
    """The canary's report as a dict."""
    return dict(line.split("=", 1) for line in report.decode().splitlines())
