"""Reading what students hand in: hostile bytes in, cells of text out. Nothing here compiles or runs their code."""
from autograder.submission.cells import Cell, Submission
from autograder.submission.notebook import read_notebook
from autograder.submission.problems import BadInput, Problem
from autograder.submission.program import program_for
from autograder.submission.reader import read_submissions
from autograder.submission.script import read_script

__all__ = ["BadInput", "Cell", "Problem", "Submission", "program_for", "read_notebook", "read_script",
           "read_submissions"]
