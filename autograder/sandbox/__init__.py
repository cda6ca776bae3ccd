"""Where student code runs. Read first `client.py`, the trusted side; then `zygote.py` and `seal.py`.

Nothing is imported here: the zygote imports this package too and must hold none of the grader's code.
"""
