"""The checks as an instructor would write them for a grader that runs tests in the student's kernel.

This module's text is inlined: into a hidden cell for nbgrader, into a support file for otter. It runs the very check
functions of a unit, as hypothesis runs any test: from the engine's seed, with as many examples, and without the
phases that a grade does not need. A call is cut off after the course's limit, by an alarm in the kernel.
"""
import inspect
from types import ModuleType

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, settings

from etude.students.student import NamespaceStudent
from etude.students.watch import Watch


def make(reference_text, checks_text, seed, call_seconds, exercise_seconds):
    """`holds(check, namespace)`, which raises where the check fails for the functions in `namespace`."""
    torch.set_num_threads(1)
    settings.register_profile("peer", max_examples=8, deadline=None, database=None, print_blob=False,
                              report_multiple_bugs=False, suppress_health_check=list(HealthCheck),
                              phases=(Phase.explicit, Phase.generate), verbosity=hypothesis.Verbosity.quiet)
    settings.load_profile("peer")
    reference, checks = _module("reference", reference_text), _module("checks", checks_text)
    timeouts = {}

    def holds(check, namespace):
        test = getattr(checks, check)
        exercise = next(mark.args[0] for mark in test.pytestmark if mark.name == "exercise")
        watch = Watch(call_seconds, exercise_seconds, namespace=namespace)
        fixtures = {"student": NamespaceStudent(namespace, watch), "reference": reference}
        wanted = inspect.signature(getattr(test, "hypothesis", None) and test.hypothesis.inner_test or test).parameters
        if hasattr(test, "hypothesis"):
            hypothesis.seed(seed)(test)
        with watch:
            watch.timeouts = timeouts.get(exercise, 0)
            try:
                test(**{name: value for name, value in fixtures.items() if name in wanted})
            finally:
                timeouts[exercise] = watch.timeouts
    return holds


def _module(name, text):
    module = ModuleType(name)
    exec(compile(text, f"<{name}>", "exec"), module.__dict__)
    return module
