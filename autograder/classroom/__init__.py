"""What comes after grading: marks under the course's policy, what a corrected check changed, similar submissions."""
