"""The seeds that examples are drawn from: one for a run, and one of a student's own where an exercise asks for it."""
from __future__ import annotations

import hashlib
import hmac
import os

from autograder.errors import UsageError

SEED_VARIABLE = "ETUDE_SEED"


def run_seed() -> int:
    """The seed of the run: secret in graded runs, by the environment variable ETUDE_SEED."""
    return _number(hashlib.sha256(_secret().encode()))


def student_seed(student: str) -> int:
    """The seed of one student's own examples: whoever knows it learns neither the run's nor another's from it."""
    return _number(hmac.new(_secret().encode(), student.encode("utf-8", "surrogatepass"), hashlib.sha256))


def _secret() -> str:
    text = os.environ.get(SEED_VARIABLE, "public")
    if not text.strip():
        raise UsageError(f"{SEED_VARIABLE} is set, but empty: a secret that is missing must not pass for one. Unset it "
                         "to grade with the public seed.")
    return text


def _number(digest: hashlib._Hash | hmac.HMAC) -> int:
    return int.from_bytes(digest.digest()[:6], "big")
