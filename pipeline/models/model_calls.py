"""What the driver has a trainer process do with models: light here, the heavy half loads there."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pipeline.recipe.model_source import ModelSource


def materialize(source: ModelSource, out: Path, *, seed: int) -> Path:
    """See `pipeline.models.materialize.materialize`."""
    from pipeline.models import materialize as heavy

    return heavy.materialize(source, out, seed=seed)


def prune(
    full: Path,
    out: Path,
    vocabulary: Path,
    *,
    used: Collection[int],
    margin: int,
    sample: Sequence[tuple[Sequence[int], Sequence[int]]],
) -> dict[str, Any]:
    """See `pipeline.models.pruned_model.prune`."""
    from pipeline.models import pruned_model as heavy

    return heavy.prune(full, out, vocabulary, used=used, margin=margin, sample=sample)


def restore(model: Path, vocabulary: Path, out: Path) -> None:
    """See `pipeline.models.pruned_model.restore`."""
    from pipeline.models import pruned_model as heavy

    heavy.restore(model, vocabulary, out)
