"""The cards' style sheet. Every rule begins with the cards' own class: a notebook page has other tenants.

Text, background and borders are the theme's own (JupyterLab's variables, with values for pages that have none). What
says right and wrong is blue and orange, which no kind of colour blindness confuses, and always also a sign or a word.
"""

_LIGHT = """\
  --etude-good: #0a5587; --etude-bad: #9c3d06; --etude-tint: #eaf2f8; --etude-warm: #fdf1e6; --etude-rule: #d7d9d3;
  --etude-1: #fbe3d1; --etude-2: #f4c09b; --etude-3: #e58f55; --etude-4: #d9b8e8; --etude-ink: #20242a;"""
_DARK = """\
  --etude-good: #86c3ee; --etude-bad: #f3a778; --etude-tint: #172a38; --etude-warm: #33241a; --etude-rule: #43494f;
  --etude-1: #46301f; --etude-2: #7a4522; --etude-3: #a85a20; --etude-4: #6b3f80; --etude-ink: #f4f4f4;"""

_RULES = """
.etude-card {
LIGHT
  color: var(--jp-ui-font-color1, #20242a); background: var(--jp-layout-color1, transparent);
  font: 14px/1.5 var(--jp-ui-font-family, system-ui, sans-serif); max-width: 54em; margin: 4px 0 10px;
  border: 1px solid var(--etude-rule); border-left: 4px solid var(--etude-bad); border-radius: 4px; padding: 10px 16px;
}
[data-jp-theme-light="false"] .etude-card, .vscode-dark .etude-card {
DARK
}
.etude-card.etude-good { border-left-color: var(--etude-good); }
.etude-card.etude-plain { border-left-color: var(--etude-rule); }
@ p, @ ul, @ pre { margin: 0 0 6px; padding: 0; font-size: inherit; }
@ ul { list-style: none; }
@ .etude-head { font-size: 15px; margin: 0 0 8px; }
@ .etude-head code { font-size: 13px; }
@ code, @ pre {
  font-family: var(--jp-code-font-family, ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace);
  font-size: 12.5px; background: none; color: inherit; padding: 0; line-height: 1.45;
}
@ pre {
  white-space: pre-wrap; overflow-wrap: anywhere; border-left: 2px solid var(--etude-rule);
  padding-left: 10px;
}
@ .etude-line { padding-left: 1.4em; text-indent: -1.4em; }
@ .etude-line > * { text-indent: 0; }
@ .etude-sign { display: inline-block; width: 1.4em; font-weight: 700; }
@ .etude-yes { color: var(--etude-good); }
@ .etude-no { color: var(--etude-bad); }
@ .etude-box { border-radius: 4px; padding: 8px 12px; margin: 0 0 10px; }
@ .etude-box p:last-child { margin: 0; }
@ .etude-diagnosis { background: var(--etude-tint); }
@ .etude-note { background: var(--etude-warm); }
@ .etude-why { margin: 2px 0 12px 1.4em; }
@ .etude-title { font-weight: 600; margin: 0 0 2px; }
@ .etude-foot {
  border-top: 1px solid var(--etude-rule); padding-top: 8px; margin: 10px 0 0; font-size: 13px;
}
@ .etude-foot p { margin: 0; }
@ details { margin: 0 0 6px; }
@ summary { cursor: pointer; list-style: none; }
@ summary::-webkit-details-marker { display: none; }
@ summary::after { content: " ▸"; color: var(--etude-good); }
@ details[open] > summary::after { content: " ▾"; }
@ .etude-quiet { font-weight: 400; }
@ .etude-calm { color: inherit; }
@ summary:focus-visible, @ .etude-scroll:focus-visible {
  outline: 2px solid var(--etude-good); outline-offset: 2px;
}
@ .etude-grids { display: flex; flex-wrap: wrap; gap: 6px 28px; margin: 6px 0 8px; }
@ table {
  border-collapse: collapse; border: 0; margin: 0; font-size: 12.5px; table-layout: auto;
  font-family: var(--jp-code-font-family, ui-monospace, Menlo, Consolas, monospace);
}
@ caption {
  caption-side: top; text-align: left; padding: 0 0 2px; font-family: var(--jp-ui-font-family, system-ui, sans-serif);
  color: inherit; font-size: 12.5px; white-space: nowrap;
}
@ tr, @ tbody tr:nth-child(odd), @ tbody tr:hover { background: none; }
@ td, @ th {
  text-align: right; padding: 2px 8px; border: 1px solid var(--etude-rule); white-space: nowrap; max-width: none;
  color: inherit; font-variant-numeric: tabular-nums; vertical-align: baseline;
}
@ th { border: 0; font-weight: 400; opacity: .85; }
@ td.etude-wrong {
  background: var(--etude-2); color: var(--etude-ink); font-weight: 700; outline: 2px solid var(--etude-bad);
  outline-offset: -2px;
}
@ table.etude-list + table.etude-list { margin-top: 14px; }
@ .etude-list caption { font-weight: 600; }
@ table.etude-list { font-family: inherit; font-size: 13.5px; width: 100%; }
@ .etude-list td, @ .etude-list th {
  border: 0; border-bottom: 1px solid var(--etude-rule); text-align: left; padding: 4px 8px 4px 0; opacity: 1;
  white-space: normal;
}
@ .etude-heat { display: grid; gap: 1px; width: max-content; margin: 4px 0; }
@ .etude-heat i {
  font: 700 10px/14px var(--jp-code-font-family, monospace); width: 14px; height: 14px; text-align: center;
  background: var(--etude-rule); color: var(--etude-ink); opacity: 1;
}
@ .etude-heat .etude-h0 { background: none; color: inherit; font-weight: 400; }
@ .etude-heat .etude-h1 { background: var(--etude-1); }
@ .etude-heat .etude-h2 { background: var(--etude-2); }
@ .etude-heat .etude-h3 { background: var(--etude-3); }
@ .etude-heat .etude-h4 { background: var(--etude-4); }
@ .etude-small { font-size: 12.5px; }
@ .etude-scroll { overflow-x: auto; }
@ progress { width: 16em; accent-color: var(--etude-good); vertical-align: middle; }
@ .etude-unseen {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}
"""

CSS = (_RULES.replace("LIGHT", _LIGHT).replace("DARK", _DARK)
       # The class twice: rules of JupyterLab for what lies in an output would otherwise weigh more.
       .replace("@", ".etude-card.etude-card"))
