"""From the sources in solutions/ to what students get in assignments/.

Start with `build.build`. Importing this package is cheap; nbgrader and jupytext are imported where they are used.
"""
