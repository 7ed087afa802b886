"""What the driver has a trainer process do with models: light here, the heavy half loads there."""

from pathlib import Path

from pipeline.recipe.model_source import ModelSource


def materialize(source: ModelSource, out: Path, *, seed: int) -> Path:
    """See `pipeline.models.materialize.materialize`."""
    from pipeline.models import materialize as heavy

    return heavy.materialize(source, out, seed=seed)
