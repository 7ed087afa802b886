"""The error of a prompt source."""

from pipeline.errors import WrongInput


class PromptError(WrongInput):
    """A prompt source cannot be read as the recipe describes it."""
