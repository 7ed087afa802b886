"""The rollouts of a run as one HTML file to read, filter and compare them in, without a network."""

import base64
import hashlib
from pathlib import Path

from markupsafe import Markup

from pipeline.artifacts import write_atomic
from pipeline.watch.explorer_data import MOST_ROLLOUTS, MOST_TOKENS, ExplorerData, explorer_data
from pipeline.watch.page import page_environment
from pipeline.watch.rollout_files import rollout_files
from pipeline.watch.rollout_log import prompts_of
from pipeline.watch.run_reading import recipe_of

EXPLORER_FILE = "explorer.html"


def write_explorer(
    run_dir: Path, *, most: int = MOST_ROLLOUTS, most_tokens: int = MOST_TOKENS
) -> ExplorerData | None:
    """Write `explorer.html` into a run folder; None, and no file, where it has no rollouts.

    Raises RunReadError where the folder is no run's, or a file of rollouts cannot be read.
    """
    recipe = recipe_of(run_dir)
    files = rollout_files(run_dir, list(recipe.get("stages") or {}))
    if not files:
        return None
    data = explorer_data(files, prompts_of(run_dir), most=most, most_tokens=most_tokens)
    environment = page_environment()
    script = environment.get_template("explorer.js.j2").render()
    page = environment.get_template("explorer.html.j2").render(
        name=recipe["name"],
        note=data.note,
        data=data,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    write_atomic(run_dir / EXPLORER_FILE, page)
    return data
