"""What can go wrong, and the exit code that each kind of failure ends the command with."""


class AutograderError(Exception):
    """Base of every error that is told to the user in one line, without a traceback."""

    exit_code = 3


class UsageError(AutograderError):
    """Bad usage or bad input. The message names the file and the place, and what to do."""

    exit_code = 2


class SandboxError(AutograderError):
    """The sandbox could not be set up or broke: the grader's fault, never the student's."""


class SandboxLost(SandboxError):
    """Something outside ended the sandbox's processes while they were needed; in another sandbox it may go well."""


class Interrupted(AutograderError):
    """Ctrl-C: what was done is kept."""

    exit_code = 130
