"""A report in which every string that a student could influence attacks its reader."""
from __future__ import annotations

from autograder.report.model import (
    CheckResult,
    Counterexample,
    Diagnosis,
    Difference,
    ExerciseResult,
    Report,
    TensorView,
)

ATTACKS = {
    "ansi": "\x1b[2J\x1b[31mred\x1b[0m \x9b1mbold \x1b]0;title\x07 \x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&lt;</title></style></pre>",
    "v2 command": "::add-mask::secret\n::error file=a::b\n  ::stop-commands::x\n:\u200b:set-env name=A::b",
    "v1 command": "text ##[add-mask]secret ##vso[task.setvariable]x #\u200b#[error]y",
    "bidi": "\u202egnp.exe\u202c \u2066iso\u2069 \u200fmark",
    "zero width": "a\u200bb\u200cc\u200dd\ufeffe\u00adf\U000e0041g",
    "controls": "nul\0 bell\x07 back\x08 delete\x7f return\rover tab\tend \x85next \u2028line \ufffe\uffff",
    "cdata": "]]> <![CDATA[ ]]&gt; <?xml version='1.0'?> <!DOCTYPE x [<!ENTITY e SYSTEM 'file:///'>]>&e;",
    "encoded command": "%0A::error::injected%0D%0a::warning::x",
    "jinja": "{{ 7 * 7 }}{% include 'x' %}{# c #}",
    "markdown": "![x](http://evil.example/t.png) [a](javascript:x) `code` | cell | @everyone $x$ <!-- --> https://evil.example",
    "rich markup": "[red]x[/red] [link=http://evil.example]y[/link] [/]",
    "surrogate": "lone \ud800 pair \udfff",
    "stacked marks": "z" + "\u0300" * 200,
}


def poisoned(text: str, *, passed: bool = False) -> Report:
    """A report with `text` in every field that holds text: a public check, a hidden one, notes, provenance."""
    view = TensorView(name=text, shape=[2], dtype=text, text=text)
    difference = Difference(
        where=text, first_index=[1], expected_value=1.0, got_value=text, largest_error=text, tolerance=text,
        wrong_elements=1, total_elements=2, non_finite=text, expected=view, got=view)
    example = Counterexample(inputs=text, tensors=[view], difference=difference)
    diagnosis = Diagnosis(id=text, title=text, explanation=text, certainty="all probes")
    checks = [CheckResult(name=text, title=text, points=1, score=0, passed=passed, public=public, message=text,
                          counterexample=example, diagnosis=diagnosis) for public in (True, False)]
    exercise = ExerciseResult(id=text, title=text, score=0, max_score=2, status="pending", checks=checks, notes=[text])
    return Report(student=text, unit=text, sandbox="ADVISORY", score=0, max_score=2, exercises=[exercise],
                  notes=[text], provenance={"host": "x"})
