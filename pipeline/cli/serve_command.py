"""`stepwell serve`: the command; `pipeline.use.server` does the work."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.cli.streams import say
from pipeline.recipe.hub_reach import reach
from pipeline.use.model_place import ModelPlace, model_place


def serve(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model's folder, a run's, or a hub id.")
    ],
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- OPTION...]", help="Options of vLLM's own server."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8000,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that MODEL brings along.")
    ] = False,
    as_json: Json = False,
) -> Answer:
    """Serve a model as OpenAI's API does, through vLLM: with `effort`, `budget`, `depth` and
    `thinking_budget` as fields of a request, and the mean depth in its answer. Ctrl-C ends it."""
    from pipeline.plan.device import nvidia_driver
    from pipeline.use import server

    device = "cuda" if nvidia_driver() else "cpu"
    server.set_environment(device=device)  # before anything imports torch
    place = model_place(model)
    config = _config(place, trusted=trust_remote_code)
    server.check_served(place, config, device=device)
    options = server.server_options(
        place,
        config,
        name=model,
        host=host,
        port=port,
        device=device,
        own_code=trust_remote_code,
        more=more or [],
    )
    url = f"http://{host}:{port}"
    said = f"{place.words} at {url}/v1 (health: {url}/health, metrics: {url}/metrics); Ctrl-C ends"
    server.serve(options, ready=lambda: say(said))
    document = {"model": place.words, "url": url, "options": options}
    return Answer(document=document, show=lambda: None)


def _config(place: ModelPlace, *, trusted: bool) -> dict[str, Any]:
    """The model's `config.json`, once its files are known to be whole; empty for a GGUF file.

    Raises ModelError.
    """
    if place.is_gguf:
        return {}
    if place.folder is None and (line := reach()) is not None:
        say(line)
    from pipeline.models.model_folder import check_code, check_folder, hub_config
    from pipeline.models.own_code import needs_own_code

    if place.folder is not None:
        check_folder(place.folder, trusted=trusted)
        return json.loads((Path(place.name) / "config.json").read_text())
    config = hub_config(place.name)
    if needs_own_code(config):
        check_code(place.name, config, trusted=trusted)
    return config
