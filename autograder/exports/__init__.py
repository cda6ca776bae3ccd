"""What other tools take in: a repository for students, otter assignments, Gradescope zips, gradebook sheets."""
