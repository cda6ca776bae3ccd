"""A person in JupyterLab: a planted mistake is named, corrected, saved and validated. The tests build on each other."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

WRONG = '''\
def sdpa(q, k, v, keep):
    scores = q @ k.transpose(-2, -1)
    scores = scores.masked_fill(~keep, torch.finfo(q.dtype).min)
    print("scores", tuple(scores.shape))
    return torch.softmax(scores, dim=-1).masked_fill(~keep, 0) @ v
'''
RIGHT = WRONG.replace("k.transpose(-2, -1)", "k.transpose(-2, -1) / math.sqrt(q.shape[-1])").replace(
    '    print("scores", tuple(scores.shape))\n', "")
ENDLESS = "def sdpa(q, k, v, keep):\n    while True:\n        q = q + 1\n"
FAILING = "def sdpa(q, k, v, keep):\n    weights = torch.softmax(q @ k, dim=-1)\n    return weights @ v\n"
UNFINISHED = "def sdpa(q, k, v, keep)\n    return v\n"
LATE = RIGHT.replace("    scores = scores.masked_fill(~keep, torch.finfo(q.dtype).min)\n", "")
"""The mask comes after the softmax: the weights of what is kept no longer sum to one."""
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


@pytest.fixture(scope="session")
def axe(chromium):
    import axe_playwright_python
    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def card_of(cell):
    card = cell.locator(".etude-card").last
    card.wait_for()
    return card


def violations(notebook, axe):
    """What axe-core has against the cards in view."""
    notebook.page.evaluate(axe)
    found = notebook.page.evaluate("axe.run('.etude-card', {})")
    assert found["passes"], "axe-core has looked at nothing"
    return [(one["id"], node["html"]) for one in found["violations"] for node in one["nodes"]]


def pictures(notebook, name, cell, themes=("light", "dark") if "ETUDE_ALL_PICTURES" in os.environ else ()):
    """A picture in each of these themes; without any, in the one that is on."""
    for theme in themes:
        notebook.theme(THEMES[theme])
        notebook.picture(f"{name}_{theme}", card_of(cell))
    if not themes:
        notebook.picture(name, card_of(cell))


def test_a_planted_mistake_gets_a_red_card_that_names_it(notebook, axe):
    notebook.run("setup")
    notebook.write("sdpa_masked", WRONG)
    notebook.run("sdpa_masked")
    cell = notebook.run("check_sdpa_masked")
    text = card_of(cell).inner_text()
    assert "This is what you get when the scores are not divided by √d." in text
    assert "6 of 7 properties hold" in text and "expected" in text and "yours" in text
    assert "scores (1, 1, 1, 2)" in text, "what the function prints is kept"
    cell.locator("summary").last.click()
    for theme in THEMES:
        pictures(notebook, "red_card", cell, [theme])
        assert violations(notebook, axe) == []


def test_the_card_opens_with_the_keyboard_alone(notebook):
    summary = card_of(notebook.cell("check_sdpa_masked")).locator("summary").last
    summary.focus()
    before = summary.evaluate("it => it.parentElement.open")
    notebook.page.keyboard.press("Enter")
    assert summary.evaluate("it => it.parentElement.open") != before


def test_an_edited_cell_that_was_not_run_is_noticed(notebook):
    notebook.write("sdpa_masked", RIGHT)
    notebook.save()
    cell = notebook.run("check_sdpa_masked")
    assert "You edited this exercise's cell but did not run it" in card_of(cell).inner_text()
    pictures(notebook, "stale_card", cell)


def test_the_corrected_cell_gets_a_green_card_and_both_are_saved(notebook):
    notebook.run("sdpa_masked")
    cell = notebook.run("check_sdpa_masked")
    text = card_of(cell).inner_text()
    assert "all 7 public properties hold" in text and "did not run" not in text
    pictures(notebook, "green_card", cell)
    saved = {one["metadata"].get("nbgrader", {}).get("grade_id"): one for one in notebook.save()["cells"]}
    assert "".join(saved["sdpa_masked"]["source"]).strip() == RIGHT.strip()
    data = saved["check_sdpa_masked"]["outputs"][-1]["data"]
    assert {"text/html", "text/markdown", "text/plain"} <= data.keys()
    assert "all 7 public properties hold" in "".join(data["text/plain"])


def test_the_notebooks_pictures_are_drawn_by_what_was_built_on_a_background_of_their_own(notebook):
    sources = ["".join(cell["source"]) for cell in notebook.saved()["cells"]]
    diagram = next(i for i, source in enumerate(sources) if "draw_graph(axes[0]" in source)
    maps = next(i for i, source in enumerate(sources) if "show_maps([sdpa(" in source)
    for name, number in (("diagram", diagram), ("maps", maps)):
        image = notebook.run(number).locator("img").last
        image.wait_for()
        notebook.picture(name, image)
        width, corner = image.evaluate("""image => {
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            return [image.naturalWidth, [...context.getImageData(1, 1, 1, 1).data]];
        }""")
        assert width > 600 and corner == [255, 255, 255, 255], "dark ink on a dark page"


def test_where_a_matrix_is_wrong_is_shown_as_a_map(notebook, axe):
    notebook.write("sdpa_masked", LATE)
    notebook.run("sdpa_masked")
    cell = notebook.run("check_sdpa_masked")
    for summary in card_of(cell).locator("summary").all():
        summary.click()
    maps = card_of(cell).locator(".etude-heat")
    assert maps.count() >= 1 and "values differ: in rows" in maps.first.get_attribute("aria-label")
    pictures(notebook, "map_card", cell)
    assert violations(notebook, axe) == []


def test_a_cell_that_python_does_not_understand_is_told_apart_from_what_ran_before(notebook, axe):
    notebook.write("sdpa_masked", UNFINISHED)
    assert "SyntaxError" in notebook.run("sdpa_masked").inner_text()
    cell = notebook.run("check_sdpa_masked")
    assert "This exercise's cell ended in SyntaxError when it was last run" in card_of(cell).inner_text()
    pictures(notebook, "syntax_error_card", cell)
    assert violations(notebook, axe) == []


def test_an_error_shows_the_students_line_and_the_shapes_on_it(notebook, axe):
    notebook.write("sdpa_masked", FAILING)
    notebook.run("sdpa_masked")
    cell = notebook.run("check_sdpa_masked")
    for summary in card_of(cell).locator("summary").all():
        summary.click()
    text = card_of(cell).inner_text()
    assert "line 2, in sdpa" in text and "weights = torch.softmax(q @ k, dim=-1)" in text
    assert "q: (" in text and "etude" not in text.replace("etude_progress", "") and "site-packages" not in text
    pictures(notebook, "error_card", cell)
    assert violations(notebook, axe) == []


def test_an_endless_loop_is_interrupted_and_the_bar_is_shown(notebook):
    notebook.write("sdpa_masked", ENDLESS)
    notebook.run("sdpa_masked")
    notebook.cell("check_sdpa_masked").locator(".cm-content").first.click()
    notebook.page.keyboard.press("Shift+Enter")
    bar = notebook.page.locator(".etude-card progress")
    bar.wait_for()
    notebook.picture("progress_bar")
    bar.wait_for(state="detached")
    text = card_of(notebook.cell("check_sdpa_masked")).inner_text()
    assert "took longer than 5 seconds" in text and ("while True:" in text or "q = q + 1" in text)


def test_hints_progress_and_the_whole_notebook(notebook, axe):
    notebook.write("sdpa_masked", RIGHT)
    notebook.run("sdpa_masked")
    count = len(notebook.saved()["cells"])
    hint, progress, everything = (card_of(notebook.run(count - 3 + i)) for i in range(3))
    assert "hint 1 of 3" in hint.inner_text()
    assert "Masked scaled dot-product attention" in progress.inner_text()
    assert "exercises hold all their public properties" in everything.inner_text()
    assert "not run: no cell that was run defines cross_attention" in everything.inner_text()
    for i, name in enumerate(("hint", "progress", "everything")):
        pictures(notebook, name, notebook.cell(count - 3 + i))
    assert violations(notebook, axe) == []


def test_validate_shows_the_cards_and_the_server_answers_meanwhile(notebook):
    page = notebook.page
    notebook.theme(THEMES["light"])
    answered = []
    page.on("response", lambda response: answered.append(response.url.split("?")[0].rsplit("/", 1)[-1]))
    page.get_by_role("button", name="Validate").click()
    page.wait_for_function("() => /Validating/.test(document.querySelector('.validate-button').textContent)")
    page.evaluate("() => fetch(window.jupyterapp.serviceManager.serverSettings.baseUrl + 'api/status')")
    dialog = page.locator(".jp-Dialog")
    dialog.wait_for()
    assert answered.index("status") < answered.index("validate"), "the server waited for the checks"
    text = dialog.inner_text()
    assert "Validation Results" in text and "Multi-head cross-attention (cross_attention)" in text
    assert "sdpa_masked" not in text, "what holds is not among the failures"
    notebook.picture("validate_light", page)
    dialog.get_by_role("button", name="OK").click()
