"""All attacks by id."""
from __future__ import annotations

from . import group_a, group_b, group_c, group_d, more
from .fuzz import FUZZ
from .model import Attack

GROUPS = {"a": "fake the verdict", "b": "steal", "c": "exfiltrate, persist", "d": "exhaust"}
ATTACKS: dict[str, Attack] = {attack.id: attack for group in (group_a, group_b, group_c, group_d)
                              for attack in group.ATTACKS}
"""The 74 rows that were run when the sandbox was designed."""
MORE: dict[str, Attack] = {attack.id: attack for attack in more.ATTACKS}
"""The rows that were then only read or reasoned about, as far as a submission can try them, and later findings."""
ALL = ATTACKS | MORE
OTHERS: dict[str, Attack] = {**FUZZ, more.HARD_CODED.id: more.HARD_CODED}
"""What tests of their own are about."""
