"""A card as HTML: no script, nothing from elsewhere, usable with the keyboard and by ear.

Where a page strips the style (an untrusted notebook), what remains is plain paragraphs, lists and tables.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from etude.students.card_style import CSS
from etude.students.card_text import HEAT, HEAT_LEGEND, SAME, example_label, failed_first, footer, headline, repeated
from etude.students.findings import Failure, Finding, Grid, Heat, Property


def card(body: str, label: str, kind: str = "plain") -> str:
    """A card around `body`; `kind` is good, bad or plain."""
    return (f'<style>{CSS}</style><div class="etude-card etude-{kind}" role="group" aria-label="{escape(label)}">'
            f"{body}</div>")


def findings_html(findings: Sequence[Finding], seconds: float = 0.0) -> str:
    """The card of one exercise, or of the whole notebook: an overview, and each exercise to be opened."""
    if len(findings) == 1:
        return _one(findings[0])
    passed = sum(finding.passed for finding in findings)
    label = f"{passed} of {len(findings)} exercises hold all their public properties"
    parts = [f'<p class="etude-head"><strong>{label}</strong></p>']
    first = next((finding for finding in findings if not finding.passed and not finding.not_run), None)
    for finding in findings:
        head, body, opened = _head(finding), _body(finding), " open" if finding is first else ""
        parts.append(f'<p class="etude-line">{head}</p>' if finding.passed or _says_nothing_more(finding) else
                     f'<details{opened}><summary class="etude-line">{head}</summary>'
                     f'<div class="etude-why">{body}</div></details>')
    return card("".join(parts), label, "good" if passed == len(findings) else "bad")


def _says_nothing_more(finding: Finding) -> bool:
    return bool(finding.not_run) and not finding.notes


def message_html(text: str) -> str:
    """A card that only says something."""
    lines = "".join(f"<p>{escape(line)}</p>" for line in text.splitlines())
    return card(lines, text.splitlines()[0][:120] if text else "message")


def progress_html(done: int, total: int, doing: str, seconds: float) -> str:
    """The bar that is shown while a check takes long."""
    label = f"Checking {doing}: {done} of {total} properties, {seconds:.0f} s"
    bar = f'<progress value="{done}" max="{max(total, 1)}" aria-label="{escape(label)}"></progress>'
    return card(f'<p role="status">{bar} {escape(label)}</p>', "Checks are running")


# ---------------------------------------------------------------------------------------------- one exercise

def _one(finding: Finding) -> str:
    body = f'<p class="etude-head etude-line">{_head(finding)}</p>{_body(finding)}'
    kind = "good" if finding.passed else "plain" if finding.not_run else "bad"
    return card(body, f"{finding.title}: {headline(finding)}", kind)


def _head(finding: Finding) -> str:
    sign = '<span class="etude-sign" aria-hidden="true">○</span>' if finding.not_run else _sign(finding.passed)
    return (f"{sign}<strong>{escape(finding.title)}</strong> <code>{escape(finding.exercise)}</code>: "
            f"{headline(finding)}")


def _body(finding: Finding) -> str:
    parts = [f'<div class="etude-box etude-note"><p>{escape(note)}</p></div>' for note in finding.notes]
    if not finding.not_run:
        if finding.diagnosis:
            parts.append(f'<div class="etude-box etude-diagnosis"><p><strong>{escape(finding.diagnosis.sentence)}'
                         f"</strong></p>{_paragraphs([finding.diagnosis.hint])}</div>")
        properties = failed_first(finding)
        again = repeated(properties)
        first = next((one.name for one in properties if not one.holds), None)
        rows = [_property(one, one.name == first, one.name in again) for one in properties if not one.holds]
        held = "".join(f'<li class="etude-line">{_sign(True)}{escape(one.title)}'
                       f'{f"<br>{escape(one.said)}" if one.said else ""}</li>'
                       for one in properties if one.holds)
        if held and rows:
            verb = "hold" if finding.held > 1 else "holds"
            sign = '<span class="etude-sign etude-yes" aria-hidden="true">✓</span>'
            held = (f'<li><details><summary class="etude-line">{sign}{finding.held} {verb}</summary>'
                    f"<ul>{held}</ul></details></li>")
        parts.append(f"<ul>{''.join(rows)}{held}</ul>")
    foot = [_with_code(line) for line in footer(finding)]
    if foot:
        parts.append(f'<div class="etude-foot">{"".join(f"<p>{line}</p>" for line in foot)}</div>')
    return "".join(parts)


def _property(one: Property, is_first: bool, is_again: bool) -> str:
    """The first failure in full, the others closed: one thing at a time."""
    assert one.failure is not None
    title = f"{_sign(False)}{escape(one.title)}"
    if is_again:
        return f'<li><p class="etude-title etude-line">{title} <span class="etude-quiet">{SAME}</span></p></li>'
    why = f'<div class="etude-why">{_failure(one.failure)}</div>'
    if is_first:
        return f'<li><p class="etude-title etude-line">{title}</p>{why}</li>'
    return f'<li><details><summary class="etude-title etude-line">{title}</summary>{why}</details></li>'


def _failure(failure: Failure) -> str:
    parts = [_paragraphs([failure.what, failure.detail])]
    if failure.trace:
        parts.append(f"<pre>{escape(chr(10).join(failure.trace))}</pre>")
    if failure.hint:
        parts.append(f"<p><strong>Try next:</strong> {escape(failure.hint)}</p>")
    if failure.grids:
        parts.append(f'<div class="etude-grids">{"".join(map(_grid, failure.grids))}</div>')
    if failure.heat:
        parts.append(_heat(failure.heat))
    if failure.example:
        inputs = f"<pre>{escape(chr(10).join(failure.inputs))}</pre>" if failure.inputs else ""
        parts.append(f"<p>{example_label(failure)}: <code>{escape(failure.example)}</code></p>{inputs}")
    if failure.printed:
        parts.append(f"<p>Printed by your code on this example:</p><pre>{escape(failure.printed)}</pre>")
    return "".join(parts)


def _grid(grid: Grid) -> str:
    """A table with its indices as headers: large tables without any are a maze by ear."""
    columns = "".join(f'<th scope="col">{j}</th>' for j in range(len(grid.rows[0])))
    rows = ""
    for i, row in enumerate(grid.rows):
        cells = "".join(_cell(value, (i, j) in grid.wrong) for j, value in enumerate(row))
        rows += f'<tr><th scope="row">{i}</th>{cells}</tr>'
    corner = '<th><span class="etude-unseen">index</span></th>'
    return (f"<table><caption>{escape(grid.name)}</caption><thead><tr>{corner}{columns}</tr></thead>"
            f"<tbody>{rows}</tbody></table>")


def _cell(value: str, wrong: bool) -> str:
    if not wrong:
        return f"<td>{escape(value)}</td>"
    return f'<td class="etude-wrong">{escape(value)}<span class="etude-unseen"> differs</span></td>'


def _heat(heat: Heat) -> str:
    columns = len(heat.levels[0])
    cells = "".join(f'<i class="etude-h{level}">{HEAT[level]}</i>' for row in heat.levels for level in row)
    label = f"{heat.wrong} of {heat.total} values differ: {_where(heat)}"
    return (f'<p class="etude-small">Where it differs, <code>{escape(heat.name)}</code> '
            f"({escape(heat.caption)}; {HEAT_LEGEND}):</p>"
            f'<div class="etude-heat" role="img" aria-label="{escape(label)}" '
            f'style="grid-template-columns:repeat({columns},14px)">{cells}</div>')


def _where(heat: Heat) -> str:
    rows = [i for i, row in enumerate(heat.levels) if any(row)]
    columns = [j for j in range(len(heat.levels[0])) if any(row[j] for row in heat.levels)]
    return f"in rows {_listed(rows, len(heat.levels))}, in columns {_listed(columns, len(heat.levels[0]))}"


def _listed(indices: list[int], total: int) -> str:
    if len(indices) == total:
        return "all"
    return ", ".join(map(str, indices[:12])) + (" and more" if len(indices) > 12 else "")


def _sign(good: bool) -> str:
    word, sign, kind = ("holds: ", "✓", "yes") if good else ("fails: ", "✗", "no")
    return (f'<span class="etude-sign etude-{kind}" aria-hidden="true">{sign}</span>'
            f'<span class="etude-unseen">{word}</span>')


def _paragraphs(lines: Iterable[str]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines if line)


def _with_code(line: str) -> str:
    """`check("x").example holds …`: the beginning up to the first space is code."""
    code, _, rest = line.partition(" ")
    return f"<code>{escape(code)}</code> {escape(rest)}" if "(" in code else escape(line)
