"""Rows that the `datasets` library reads: parquet and Arrow files, data set folders, the hub.

JSON and CSV are read by our own readers: the library guesses types (a gold of "2.50" becomes 2.5, a
date a timestamp, a column of numbers and texts an error) and names no line.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from pipeline.prompts.json_rows import PlacedRow
from pipeline.prompts.prompt_error import PromptError
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.recipe_errors import did_you_mean

SAVED = "state.json"  # of a data set that `save_to_disk` wrote
SAVED_SPLITS = "dataset_dict.json"  # of one with splits


def columnar_rows(path: Path, kind: str) -> Iterator[PlacedRow]:
    """The rows of a `parquet` or `arrow` file, read piece by piece.

    Raises PromptError for a file that is damaged.
    """
    datasets = _library()
    try:
        rows = datasets.load_dataset(kind, data_files=str(path), split="train", streaming=True)
        yield from _placed(rows.decode(False))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise PromptError(
            f"{path}: cannot be read as {kind} ({_first_line(error)}); download or write it again"
        ) from error


def hub_rows(source: PromptSource, hub: str) -> Iterator[PlacedRow]:
    """The rows of a data set; `hub` is an id or a folder, with `:CONFIG` after it.

    A folder is one of the hub's, or what `save_to_disk` wrote. Raises PromptError naming the data
    set and what it has.
    """
    datasets = _library()
    folder = Path(hub)
    if (folder / SAVED).is_file() or (folder / SAVED_SPLITS).is_file():
        yield from _saved_rows(datasets, folder, source)
        return
    repository, _, configuration = hub.partition(":")
    here = Path(repository).is_dir()
    try:
        rows = datasets.load_dataset(
            repository, configuration or None, split=source.split, streaming=here
        )
        yield from _placed(rows.decode(False) if here else rows)
    except ConnectionError as error:
        raise PromptError(
            f"data set {repository} cannot be fetched: {error}; connect to the network, fill the "
            "Hugging Face cache beforehand, or save it as JSON lines and use file:"
        ) from error
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        # no such data set, configuration or split, or a damaged file
        raise PromptError(
            f"data set {repository} cannot be read: {_first_line(error)} "
            "(a configuration is written hub: ID:CONFIG)"
        ) from error


def _saved_rows(datasets: ModuleType, folder: Path, source: PromptSource) -> Iterator[PlacedRow]:
    try:
        saved = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise PromptError(
            f"data set {folder} cannot be read: {_first_line(error)}; save it again"
        ) from error
    if isinstance(saved, Mapping):
        if source.split not in saved:
            guess = did_you_mean(source.split, saved)
            raise PromptError(
                f"data set {folder} has no split {source.split!r}{guess} (it has "
                f"{', '.join(saved)}); write split: NAME"
            )
        saved = saved[source.split]
    elif "split" in source.model_fields_set and source.split != str(saved.split):
        raise PromptError(f"data set {folder} was saved without splits; remove split")
    yield from _placed(saved)


def _placed(rows: Iterable[Any]) -> Iterator[PlacedRow]:
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", cast(dict[str, Any], row)


def _library() -> ModuleType:
    """`datasets`, which says nothing by itself: what goes wrong is said here."""
    import datasets  # heavy

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    return datasets


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
