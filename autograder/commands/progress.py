"""How far a run has come: one line that is written anew on a terminal, plain lines elsewhere for who asks for them."""
from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

from autograder.report.model import Report
from autograder.report.text_safety import clean
from autograder.report.wording import number

_ENOUGH = 3
"""Submissions graded from which on the time left is told: the first pays for what all others share."""
_CLEAR = "\r\033[K"


class Progress:
    """Says after each submission how many are done and how long the rest may take. `shown`: None decides by the stream.

    True gives plain lines where there is no terminal, False nothing anywhere.
    """

    def __init__(self, total: int, shown: bool | None = None, stream: TextIO | None = None,
                 clock: Callable[[], float] = time.monotonic):
        self._stream = stream if stream is not None else sys.stderr
        self._live = shown is not False and self._stream.isatty() and total > 1
        self._plain = shown is True and not self._stream.isatty()
        self._total, self._clock = total, clock
        self._first = 0.0
        self._done = self._graded = 0

    def kept(self, count: int) -> None:
        """So many have their reports already."""
        self._done += count
        if self._done < self._total:
            self._say(f"grading {self._total - self._done} of {self._total}")

    def graded(self, report: Report) -> None:
        """One more is graded."""
        self._done, self._graded = self._done + 1, self._graded + 1
        if self._graded == 1:
            self._first = self._clock()
        left = self._left()
        self._say(f"{self._done} of {self._total}" + (f", {left} left" if left else "")
                  + f": {clean(report.student, 80, 1)}, {clean(report.unit, 80, 1)}: "
                    f"{number(report.score)} of {number(report.max_score)}")

    def end(self) -> None:
        """Leave the line as if nothing had been written."""
        if self._live:
            self._stream.write(_CLEAR)
            self._stream.flush()

    def _left(self) -> str:
        remaining = self._total - self._done
        if not remaining or self._graded < _ENOUGH:
            return ""
        seconds = round((self._clock() - self._first) / (self._graded - 1) * remaining)
        hours, minutes = seconds // 3600, seconds // 60 % 60
        return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"

    def _say(self, text: str) -> None:
        if self._live:
            self._stream.write(_CLEAR + text[:max(20, shutil.get_terminal_size().columns - 1)])
        elif self._plain:
            self._stream.write(f"{text}\n")
        if self._live or self._plain:
            self._stream.flush()
