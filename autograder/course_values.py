"""The values of course.yml: what each may be, and how a message says what stands there instead."""
from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from autograder.moments import EXAMPLE, is_moment

SCHEMA = 1


def expect(what: str, accepts: Any) -> BeforeValidator:
    """A validator whose message says what was expected and what stands there, whatever pydantic would have said."""
    def validate(value: Any) -> Any:
        if not accepts(value):
            raise PydanticCustomError("expected", "{text}", {"text": f"expected {what}, got {shown(value)}"})
        return value
    return BeforeValidator(validate)


def is_number(value: Any) -> bool:
    # A bool is an int in Python, but `points: yes` is a mistake.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e9


def is_whole(value: Any) -> bool:
    return is_number(value) and isinstance(value, int)


def _matches(pattern: str) -> Any:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, (str, int, float)):
        # Python refuses to print integers of thousands of digits.
        return repr(value)[:80] if not isinstance(value, int) or abs(value) < 10**60 else "a huge number"
    return f"a {type(value).__name__} (put it in quotes)"


_ID, _STEM = r"[A-Za-z][A-Za-z0-9_]{0,63}", r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
Positive = Annotated[float, Field(gt=0), expect("a positive number", lambda v: is_number(v) and v > 0)]
Whole = Annotated[int, Field(gt=0), expect("a positive whole number", lambda v: is_whole(v) and v > 0)]
Stars = Annotated[int, Field(ge=1, le=3), expect("1, 2 or 3", lambda v: is_whole(v) and 1 <= v <= 3)]
Flag = Annotated[bool, expect("true or false", lambda v: isinstance(v, bool))]
Line = Annotated[str, expect("a line of text", lambda v: isinstance(v, str) and v.strip() and v.isprintable())]
Id = Annotated[str, expect("an id of letters, digits and _", _matches(_ID))]
# In a notebook `check_<id>` is the cell that checks exercise <id>; `setup`, `setup_2`, ... are the setup cells.
ExerciseId = Annotated[str, expect("an id of letters, digits and _, but not check_... or setup",
                                    _matches(rf"(?!check_|setup(_\d+)?$){_ID}"))]
Stem = Annotated[str, expect("a file name without its ending: letters, digits, _ and -", _matches(_STEM))]
Module = Annotated[str, expect("the name of a module", _matches(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"))]
Name = Annotated[str, expect("the name of a function or a class, without its module", _matches(r"[A-Za-z_]\w*"))]
Share = Annotated[float, Field(gt=0, le=1), expect("a share, above 0 and at most 1",
                                                   lambda v: is_number(v) and 0 < v <= 1)]
Hours = Annotated[float, Field(ge=0), expect("a number of hours, 0 or more", lambda v: is_number(v) and v >= 0)]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"}),
                   expect(f'a time with its offset from UTC, in quotes, as "{EXAMPLE}"', is_moment)]
FileName = Annotated[str, expect("the name of a file beside course.yml, without a folder",
                                 _matches(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,99}"))]
Attempts = Annotated[Literal["best", "latest"], expect("best or latest", lambda v: v in ("best", "latest"))]
Schema = Annotated[Literal[1], expect(f"{SCHEMA}, the version that this autograder reads",
                                       lambda v: is_whole(v) and v == SCHEMA)]
