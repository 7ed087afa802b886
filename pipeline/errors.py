"""Errors that a run or a command may end with: a sentence for people, an exit code for programs.

What is not one of them is a mistake of ours and keeps its traceback.
"""

from typing import ClassVar

OK, WRONG, FAILED, STOPPED = 0, 2, 3, 4
"""Exit codes: done; wrong recipe or usage; a stage failed; stopped, the same command goes on."""


class StepwellError(Exception):
    """An expected end. The message says what was wrong, where, and what to do."""

    exit_code: ClassVar[int]

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message alone, as the command line does."""
        return [f"{type(self).__name__}: {self}"]


class WrongInput(StepwellError):
    """A recipe, a file, a folder or a command line that cannot be used as it is."""

    exit_code = WRONG


class UsageError(WrongInput):
    """A command, or a call, asks for what cannot be done; the message says what can."""


class RunFailed(StepwellError):
    """A run could not go on; what is finished is kept."""

    exit_code = FAILED


class Diverged(RunFailed):
    """A training met a step that has no numbers; from its last checkpoint it goes on without."""


class Stopped(StepwellError):
    """The user asked for an end; what was done is kept and the same command goes on."""

    exit_code = STOPPED
