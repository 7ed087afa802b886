"""Where the schedulers' files get their templates."""

import json
import shlex
from pathlib import Path

import jinja2

from pipeline.launch.job import Job


def rendered(template: str, job: Job, **more: object) -> str:
    """A template of the folder beside this file, filled in.

    `| sh` quotes for a shell, `| yaml` for YAML, of which JSON is a part, and `| sbatch` for a
    directive of SLURM; an unknown name is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # these are no HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"sh": shlex.quote, "yaml": _yaml, "sbatch": _sbatch}
    return environment.get_template(template).render(job=job, nodes=job.placement, **more)


def _yaml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _sbatch(text: str) -> str:
    """In double quotes, where a backslash escapes."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'
