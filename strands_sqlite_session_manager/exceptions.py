"""The one failure that a caller can answer in code: rebuild the agent and go on."""

from strands.types.exceptions import SessionException


class StaleSessionException(SessionException):
    """The conversation was continued elsewhere since it was loaded here; nothing was written.

    Build a new session manager and agent on the same ids: they resume from what the other one stored.
    """
