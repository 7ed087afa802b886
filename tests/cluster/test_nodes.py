"""A run on a Ray of two nodes, each a machine of its own, ends as it does on one.

node-a  the driver, the rollout service, a rank, an engine
node-b  a rank, an engine
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import OK
from tests.cluster.machines import Network, no_machines
from tests.cluster.ray_nodes import RayNodes, ended
from tests.faults.launches import finished, outcome, project

pytestmark = pytest.mark.slow

RECIPE = """
name: faults
seed: 3
model: {scratch: {hidden: 64, core: 1, heads: 2, mlp: 128, max_position: 256, iterations: 2}}
prompts:
  train: {task: sums, size: 60, difficulty: [2, 3]}
  held_out: {task: sums, size: 16, split: test, difficulty: [2, 3]}
rewards:
  digits: {use: "mine.py:digits"}
stages:
  cold: {kind: sft, rows: train.worked, lr: 1.0e-3, batch_rows: 16, max_tokens: 200, save_steps: 2}
  reason: {kind: grpo, init: cold, prompts: train, rewards: [digits], steps: 11, lr: 1.0e-4,
    prompts_per_step: 4, samples_per_prompt: 4, max_tokens: 16, save_steps: 2}
  report: {kind: evaluate, models: [cold, reason], prompts: held_out, reward: digits,
    max_tokens: 16}
hardware: {device: cpu, engine: ENGINE, ranks: 2, sharding: zero2, engines: 2,
  threads_per_rank: 4, threads_per_engine: 2}
"""
HEAD_CPUS, NODE_CPUS = 7, 6  # of 1 + 2 x 4 + 2 x 2: each node gets a rank and an engine


@pytest.fixture
def network() -> Iterator[Network]:
    """Where machines join."""
    if (why := no_machines()) is not None:
        pytest.skip(why)
    with Network() as network:
        yield network


@pytest.fixture
def nodes(network: Network, tmp_path: Path) -> RayNodes:
    """A Ray with its head on a new machine."""
    nodes = RayNodes(tmp_path)
    nodes.join(network.machine("node-a"), cpus=HEAD_CPUS)
    return nodes


def on_one_node(folder: Path, recipe: str) -> dict[str, Any]:
    """What the recipe makes on this machine alone."""
    finished(project(folder, recipe=recipe))
    return outcome(folder / "runs" / "faults")


def assert_spread(run: Path, *names: str) -> None:
    """Each machine had a rank and an engine, by the last signs of life of the processes."""
    for kind in ("trainer", "engine"):
        beats = [json.loads((run / "logs" / f"{kind}-{i}.beat").read_text()) for i in (0, 1)]
        assert {beat["host"] for beat in beats} == set(names)
    assert all((run / "logs" / f"trainer-{i}.log").is_file() for i in (0, 1))


@pytest.mark.parametrize("engine", ["native", "vllm"])
def test_two_nodes_end_as_one(
    network: Network, nodes: RayNodes, tmp_path: Path, engine: str
) -> None:
    """Weights have to cross, and with vLLM its plugin as well."""
    recipe = RECIPE.replace("ENGINE", engine)
    nodes.join(network.machine("node-b"), cpus=NODE_CPUS)
    folder = project(tmp_path / "two", recipe=recipe)
    ended(nodes.drive(folder), folder, code=OK)
    run = folder / "runs" / "faults"
    assert_spread(run, "node-a", "node-b")
    assert outcome(run) == on_one_node(tmp_path / "one", recipe)
