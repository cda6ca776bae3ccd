"""A broken statement costs what depends on it, and nothing else; whatever a cell does, the program is loaded."""
from __future__ import annotations

import sys

import pytest

from etude.cells import Program, load_program, without_magics


def load(*sources: str, mode: str = "all") -> Program:
    return load_program({"label": f"cell {number}", "source": source, "mode": mode}
                        for number, source in enumerate(sources, 1))


def errors(program: Program) -> list[tuple[str, int, str]]:
    return [(error.label, error.line, error.type_name) for error in program.errors]


def test_a_statement_that_fails_leaves_those_around_it() -> None:
    program = load("def before(): return 1\n\n1 / 0\n\ndef after(): return before() + 1")
    assert program.namespace["after"]() == 2
    assert errors(program) == [("cell 1", 3, "ZeroDivisionError")]
    assert str(program.errors[0]) == "cell 1, line 3: ZeroDivisionError: division by zero"


def test_the_line_of_an_error_is_the_innermost_one_of_the_cell() -> None:
    program = load("def helper(x):\n    return x.missing\n\nhelper(\n    3\n)")
    assert errors(program) == [("cell 1", 2, "AttributeError")]


def test_an_error_in_another_cells_function_is_told_at_the_statement_that_called_it() -> None:
    program = load("def helper(x):\n    return x.missing", "y = 1\nhelper(y)")
    assert errors(program) == [("cell 2", 2, "AttributeError")]


@pytest.mark.parametrize(("source", "line"), [
    ("x = 1\ndef f(:\n    pass", 2), ("a = (1,\nb = 2", 1), ("if True:\nx = 1", 2), ("x = 'open", 1), ("x = 1\0", 1),
])
def test_a_syntax_error_costs_its_cell_alone_and_has_a_line(source: str, line: int) -> None:
    program = load("first = 1", source, "last = 3")
    assert program.namespace["first"] == 1 and program.namespace["last"] == 3
    (error,) = program.errors
    assert (error.label, error.line) == ("cell 2", line) and error.type_name in ("SyntaxError", "IndentationError")
    assert error.message and "x" not in program.namespace


@pytest.mark.parametrize("source", ["(" * 5000, "-" * 200_000 + "1"])
def test_a_source_that_is_too_deep_for_the_parser_costs_its_cell_alone(source: str) -> None:
    program = load(source, "last = 3")
    assert program.namespace["last"] == 3 and "cell 1" in [error.label for error in program.errors]


@pytest.mark.parametrize(("statement", "name"), [
    ("raise SystemExit(0)", "SystemExit"), ("exit()", "SystemExit"), ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("raise GeneratorExit", "GeneratorExit"), ("assert False", "AssertionError"), ("import missing_module_xyz",
                                                                                   "ModuleNotFoundError"),
    ("def f(): return f()\nf()", "RecursionError"),
])
def test_no_exception_ends_the_program(statement: str, name: str) -> None:
    program = load(statement, "survived = True")
    assert program.namespace["survived"] and [error.type_name for error in program.errors] == [name]


HOSTILE = """
class Mean(type):
    @property
    def __name__(cls):
        raise RuntimeError("no name")

class Error(Exception):
    __traceback__ = property(lambda self: 1 / 0)
    def __str__(self):
        raise SystemExit("no text")
    __repr__ = __str__
"""


def test_an_exception_that_lies_about_itself_is_an_error_like_others() -> None:
    program = load(HOSTILE, "raise Error()", "survived = True")
    assert program.namespace["survived"]
    assert errors(program) == [("cell 2", 1, "Error")] and "could not be read" in program.errors[0].message


def test_a_class_of_exceptions_without_a_readable_name_is_an_error_like_others() -> None:
    program = load(HOSTILE, "class Odd(Exception, metaclass=Mean): pass\nraise Odd()", "survived = True")
    assert program.namespace["survived"] and len(program.errors) == 1


def test_long_messages_are_cut() -> None:
    assert len(load("raise ValueError('x' * 10**6)").errors[0].message) == 500


# ---------------------------------------------------------------------------------------------- definitions

@pytest.mark.parametrize("kept", [
    "import cmath", "from math import pi", "def f(): pass", "async def f(): pass", "class C: pass", "N = 3",
    "A = B = 2", "EPS = math.sqrt(2)", "t = torch.zeros(3)", "D = dict(a=1)", "a, b = 1, 2", "f = lambda x: run(x)",
    "half = partial(max, 1)", "layer = nn.Linear(2, 2)", "n: int = 3",
])
def test_definitions_are_kept(kept: str) -> None:
    setup = {"label": "setup", "mode": "all",
             "source": "import math, torch\nfrom torch import nn\nfrom functools import partial"}
    before = set(load_program([setup]).namespace)
    after = set(load_program([setup, {"label": "other", "source": kept, "mode": "definitions"}]).namespace)
    assert len(after - before) >= 1


@pytest.mark.parametrize("dropped", [
    "ran.append(1)", "x = train()", "for i in range(3): ran.append(i)", "if True: ran.append(1)", "x = [train()]",
    "with open('x') as f: pass", "x: int", "train()", "x = math.sqrt(train())", "f = lambda x=train(): x",
    "x += 1", "del ran", "assert train()", "while True: pass",
])
def test_what_runs_is_dropped_from_cells_that_are_only_to_define(dropped: str) -> None:
    setup = "import math\nran = []\ndef train():\n    ran.append(1)\n    return 1.0"
    program = load_program([{"label": "setup", "source": setup, "mode": "all"},
                            {"label": "other", "source": dropped, "mode": "definitions"}])
    assert program.errors == [] and program.namespace["ran"] == []


def test_a_definition_that_fails_is_an_error_and_the_next_still_runs() -> None:
    program = load("import missing_module_xyz\ndef f(): return 1", mode="definitions")
    assert errors(program) == [("cell 1", 1, "ModuleNotFoundError")] and program.namespace["f"]() == 1


# ---------------------------------------------------------------------------------------------- magics, flags

@pytest.mark.parametrize("line", ["%matplotlib inline", "!pip install x", "?print", "print?", "torch.nn??", "  x?"])
def test_what_only_ipython_understands_is_blank_and_lines_keep_their_numbers(line: str) -> None:
    program = load(f"import math\n{line}\nx = 1\n1 / 0")
    assert program.namespace["x"] == 1 and errors(program) == [("cell 1", 4, "ZeroDivisionError")]


@pytest.mark.parametrize(("first", "runs"), [("%%time", True), ("%%timeit -n 3", True), ("%%capture out", True),
                                             ("%%bash", False), ("%%html", False), ("%%writefile x.py", False)])
def test_cell_magics_run_the_cell_or_are_no_python(first: str, runs: bool) -> None:
    program = load(f"{first}\nx = 1")
    assert program.errors == [] and ("x" in program.namespace) == runs


@pytest.mark.parametrize("source", [
    'def f():\n    """Which keys may a query read?\n\n    Those that keep names.\n    """\n    return 1',
    'def f():\n    """\n    Why?\n    """\n    return 1', "def f():\n    x = 5 % 3  # why?\n    return 1",
    "def f():\n    return (10\n      % 3)", "def f():\n    # really?\n    return 'what?'",
])
def test_python_that_looks_like_a_magic_stays_python(source: str) -> None:
    program = load(source)
    assert program.errors == [] and program.namespace["f"]() in (1, "what?")


def test_an_empty_cell_and_one_of_comments_do_nothing() -> None:
    assert load("", "   \n\n", "# nothing", "%%time").errors == [] and without_magics("") == "\n"


def test_future_imports_hold_for_the_whole_cell_and_no_other() -> None:
    source = "from __future__ import annotations\n\ndef f(x: Missing) -> Missing: return x"
    program = load(source, source.partition("\n\n")[2].replace("f(", "g("))
    assert program.namespace["f"](2) == 2 and program.namespace["f"].__annotations__["x"] == "Missing"
    assert errors(program) == [("cell 2", 1, "NameError")]


def test_an_unknown_future_import_is_an_error_of_its_own_statement() -> None:
    program = load("from __future__ import braces\nx = 1")
    assert program.errors[0].type_name == "SyntaxError"


def test_later_cells_see_what_earlier_ones_defined_and_may_replace_it() -> None:
    program = load("def f(): return g()\ndef g(): return 1", "def g(): return 2")
    assert program.namespace["f"]() == 2 and program.namespace["__name__"] == "__main__"


def test_a_program_becomes_the_main_module_only_when_asked() -> None:
    main = sys.modules["__main__"]
    try:
        assert load("x = 1").module is not sys.modules["__main__"]
        asked = load_program([{"label": "a", "source": "import sys\nname = sys.modules['__main__'].__dict__ is "
                               "globals()", "mode": "all"}], as_main=True)
        assert asked.namespace["name"]
    finally:
        sys.modules["__main__"] = main
