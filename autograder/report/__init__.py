"""The report of a graded submission and its views.

Start with `model.Report`. Every view takes a report through `audience`, which decides what its reader may see and
cleans every string; `wording` says things once for all views; `writer` puts the files where they belong.
"""
