"""What a command has to say instead of being done."""


class CommandError(Exception):
    """Something that a person can put right, in one line."""


class UsageError(CommandError):
    """Arguments that do not fit together."""
