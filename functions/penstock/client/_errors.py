"""What keeps a text from being had, as one tree; the docstring of the package draws it."""

from __future__ import annotations


class LLMError(Exception):
    """Whatever keeps a text from being had."""


class Unreachable(LLMError):
    """Nobody answered, or what was answered broke off."""


class Refused(LLMError):
    """The gateway said no. ``retry_after`` is in seconds, where it says when to come again."""

    def __init__(self, message: str, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Unauthorized(Refused):
    """The key is missing, unknown, or good for something else."""


class TaskNotFound(Refused):
    """There is no such task of this key, or none any more."""


class TooManyRequests(Refused):
    """A rate limit or a budget."""


class TaskFailed(LLMError):
    """The task ended without a text. ``error_type`` is one word, such as ``TaskTimeout`` or ``JobCancelled``."""

    def __init__(self, message: str, task_id: str, error_type: str) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.error_type = error_type


class StillRunning(LLMError, TimeoutError):
    """The time to wait was over before the task had ended."""


REFUSALS = {401: Unauthorized, 403: Unauthorized, 404: TaskNotFound, 429: TooManyRequests}
