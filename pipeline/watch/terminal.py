"""The terminals that we print to."""

from rich.console import Console


class StandardOutput(Console):
    """A reader that went away is the command line's business."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def on_broken_pipe(self) -> None:
        """Let the error travel; Rich would end the process with exit code 1."""
        raise BrokenPipeError


class StandardError(Console):
    """Nobody has to watch a run: it goes on when its reader is gone."""

    def __init__(self) -> None:
        super().__init__(stderr=True, highlight=False)

    def on_broken_pipe(self) -> None:
        """Print nothing more."""
        self.quiet = True
