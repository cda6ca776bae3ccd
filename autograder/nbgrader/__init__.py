"""nbgrader's week with our engine: a course directory that nbgrader takes as its own, and sealed grading inside
`nbgrader autograde`, by configuration alone."""
