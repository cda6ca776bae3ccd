"""What stands behind `check`, `hint` and `progress`: the checks run on a student's own machine, and their cards."""
