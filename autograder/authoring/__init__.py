"""What gives an author a beginning: a new course with one example, and the skeleton of an exercise."""
