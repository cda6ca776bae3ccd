"""What a unit is made from, read from solutions/: the script, the reference, the checks, the known mistakes. Secret."""
