"""Where the HTML pages get their templates."""

from pathlib import Path

import jinja2


def page_environment() -> jinja2.Environment:
    """The templates beside this file; everything is escaped, and an unknown name is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
