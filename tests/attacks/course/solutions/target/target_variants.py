"""Known mistakes and right alternatives of the target."""
from autograder.variants import alternative, mistake


@mistake("double", "no_one", "the 1 is not added")
def f(x):
    return 2 * x


@mistake("double", "tripled", "x is tripled")
def f(x):
    return 3 * x


@alternative("double", "addition")
def f(x):
    return x + x + 1
