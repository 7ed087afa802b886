"""Stepwell from Python: see `pipeline.api`. It is installed as the package `stepwell`."""

try:
    from pipeline.api import *  # noqa: F403
    from pipeline.api import __all__ as __all__
except ModuleNotFoundError as error:
    if error.name != "pipeline.api":
        raise
    raise ImportError(
        "stepwell: another `pipeline` comes before Stepwell's own, such as a pipeline.py in this "
        "folder: rename it"
    ) from error
