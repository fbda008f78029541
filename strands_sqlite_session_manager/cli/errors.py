"""Errors of the command line itself, each printed as one line."""


class CommandError(Exception):
    """The command cannot do what it was asked to do; the exit code is 1."""


class UsageError(CommandError):
    """The arguments do not go together; the exit code is 2."""
