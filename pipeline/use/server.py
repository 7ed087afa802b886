"""vLLM's OpenAI-compatible server for one model, with our fields around it.

    client --HTTP--> RequestFields --> vLLM's application --> engine process
                          |                                       |
                          '---- depths of a request that ended <--'

Its plug-in (`pipeline.recurrent.vllm_plugin`) is loaded by vLLM itself, in each of its processes.
"""

import asyncio
import os
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import RunFailed, WrongInput
from pipeline.recipe.model_source import PUBLISHED
from pipeline.recurrent.shape import MODEL_TYPE
from pipeline.recurrent.vllm_plugin.orphans import SERVER
from pipeline.use.model_place import ModelPlace

PARSER = "stepwell"
"""The name of `think_parser.ThinkParser` in vLLM."""

FIELDS = "pipeline.use.request_fields.RequestFields"
REPORTS = "pipeline.recurrent.vllm_plugin.depth_reports.DepthReports"

KV_CACHE_GIB = 1
"""Of keys and values on a CPU, where vLLM would take much more; VLLM_CPU_KVCACHE_SPACE."""

POLL_S = 0.2

HEAD_MULTIPLE = 32
"""What vLLM's attention on a CPU wants of a head's size."""


class NotServed(WrongInput):
    """A model or an option that vLLM cannot serve; the message says what can."""


def server_environment(*, device: str) -> dict[str, str]:
    """What vLLM reads at import, where the user has not said otherwise."""
    common = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    }
    if device != "cpu":
        return common
    return common | {
        "VLLM_CPU_KVCACHE_SPACE": str(KV_CACHE_GIB),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_TARGET_DEVICE": "cpu",
        # OpenMP's threads spin at barriers otherwise, on the cores that the server needs
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
    }


def check_served(place: ModelPlace, config: Mapping[str, Any], *, device: str) -> None:
    """Refuse what vLLM would stumble over while it loads. Raises NotServed."""
    name = place.words
    if place.is_gguf:
        raise NotServed(f"{name}: the server takes folders and hub ids, no GGUF files")
    if config.get("model_type") in PUBLISHED:
        raise NotServed(
            f"{name} is a published recurrent checkpoint: make it ours first with "
            f"`stepwell convert {place.name} FOLDER`"
        )
    if config.get("warm_start") or config.get("kv_planes") is not None:
        raise NotServed(
            f"{name}: warm_start and kv_planes tie a token to its neighbours' depths, which a "
            "batch does not reproduce: set them to false and null in config.json"
        )
    heads, width = config.get("num_attention_heads"), config.get("hidden_size")
    size = config.get("head_dim") or (width // heads if heads and width else HEAD_MULTIPLE)
    if device == "cpu" and size % HEAD_MULTIPLE:
        raise NotServed(
            f"{name}: its heads have a size of {size}, and vLLM on a CPU wants a multiple of "
            f"{HEAD_MULTIPLE}: use `stepwell chat`, or a GPU"
        )


def server_options(
    place: ModelPlace,
    config: Mapping[str, Any],
    *,
    name: str,
    host: str,
    port: int,
    device: str,
    own_code: bool,
    more: Sequence[str],
) -> list[str]:
    """The arguments of `vllm serve`; `more` come last, and win."""
    recurrent = config.get("model_type") == MODEL_TYPE
    names = dict.fromkeys([name, Path(name).name or name])
    options = [place.name, "--host", host, "--port", str(port), "--served-model-name", *names]
    options += ["--reasoning-parser", PARSER]
    options += ["--reasoning-parser-plugin", str(Path(__file__).with_name("think_parser.py"))]
    options += ["--middleware", FIELDS, "--disable-uvicorn-access-log"]
    if recurrent:
        options += ["--worker-extension-cls", REPORTS]
    if recurrent or device == "cpu":
        options += ["--enforce-eager"]
    if device == "cpu":
        options += ["--dtype", "float32", "--block-size", "32"]
    if own_code:
        options += ["--trust-remote-code"]
    return [*options, *more]


def serve(options: Sequence[str], *, ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; `ready` is called once the server answers.

    Raises NotServed for options that vLLM refuses, RunFailed where its engine does not start or
    dies.
    """
    import uvloop
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    from pipeline.recurrent.vllm_plugin import register

    os.environ[SERVER] = str(os.getpid())
    register()  # for this process, also where the installed metadata is older
    cli_env_setup()
    parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
    try:
        arguments: Any = parser.parse_args(list(options))
        arguments.model = arguments.model_tag
        validate_parsed_serve_args(arguments)
    except SystemExit as error:
        raise NotServed("vLLM refuses the options after --; see above") from error
    except (TypeError, ValueError, KeyError) as error:
        raise NotServed(f"vLLM refuses the options: {error}") from error
    uvloop.run(_serve(arguments, ready))


async def _serve(arguments: Namespace, ready: Callable[[], None]) -> None:
    """vLLM's `run_server` with a word when it answers."""
    import uvicorn
    from vllm.entrypoints.launchers.api_server.entry import (
        build_and_serve,
        build_async_engine_client,
    )
    from vllm.entrypoints.launchers.launcher import setup_server

    try:
        address, sock = setup_server(arguments, reuse_port=False)
    except OSError as error:
        raise NotServed(
            f"{arguments.host}:{arguments.port} cannot be listened on ({error.strerror}): choose "
            "another --port"
        ) from error
    with sock:
        try:
            async with build_async_engine_client(arguments) as client:
                heard = asyncio.create_task(_answering(sock.getsockname()[1], ready))
                stop: Any = await build_and_serve(client, address, sock, arguments)
                heard.cancel()
                # after a signal it is uvicorn's shutdown that is left to do, else nothing
                died = stop.__name__ != uvicorn.Server.shutdown.__name__
            await stop
        except (RuntimeError, ValueError) as error:
            raise RunFailed(f"vLLM's engine did not start: {error}; see above") from error
    if died:
        raise RunFailed("vLLM's engine died; what it said stands above: start the server again")


async def _answering(port: int, ready: Callable[[], None]) -> None:
    """Call `ready` once the port takes connections."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(POLL_S)
            continue
        writer.close()
        ready()
        return


def set_environment(*, device: str) -> None:
    """Give this process, and those that it starts, what `server_environment` says."""
    for name, value in server_environment(device=device).items():
        os.environ.setdefault(name, value)
