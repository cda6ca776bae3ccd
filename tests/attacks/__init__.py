"""The attack suite: every row of docs/attacks.md is a submission that is graded, sealed and with layers removed."""
