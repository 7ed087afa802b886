"""A run on a Ray of two nodes, each a machine of its own, ends as it does on one.

node-a  the driver, the rollout service, a rank, an engine
node-b  a rank, an engine      it goes, or its cable is pulled, and node-c comes; that goes, and
                               node-d is there for the next launch
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from pipeline.errors import FAILED, OK
from tests.cluster.machines import Machine, Network, no_machines
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
WAIT_S = 900.0


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


def joined(network: Network, nodes: RayNodes, name: str) -> Machine:
    """A machine more in a Ray."""
    machine = network.machine(name)
    nodes.join(machine, cpus=NODE_CPUS)
    return machine


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


def await_step(project: Path, driver: Popen[str], *, step: int) -> None:
    """Returns once a step of GRPO is in the journal."""
    file = project / f"runs/faults/journal/reason/step-{step:06d}.parquet"
    end = time.monotonic() + WAIT_S
    while not file.is_file():
        assert driver.poll() is None, (project / "driver.log").read_text()
        assert time.monotonic() < end, (project / "driver.log").read_text()
        time.sleep(0.05)


@pytest.mark.parametrize("engine", ["native", "vllm"])
def test_two_nodes_end_as_one(
    network: Network, nodes: RayNodes, tmp_path: Path, engine: str
) -> None:
    """Weights have to cross, and with vLLM its plugin as well."""
    recipe = RECIPE.replace("ENGINE", engine)
    joined(network, nodes, "node-b")
    folder = project(tmp_path / "two", recipe=recipe)
    ended(nodes.drive(folder), folder, code=OK)
    run = folder / "runs" / "faults"
    assert_spread(run, "node-a", "node-b")
    assert outcome(run) == on_one_node(tmp_path / "one", recipe)


def test_nodes_that_go_and_come(network: Network, nodes: RayNodes, tmp_path: Path) -> None:
    recipe = RECIPE.replace("ENGINE", "native")
    folder = project(tmp_path / "two", recipe=recipe)
    run = folder / "runs" / "faults"
    b = joined(network, nodes, "node-b")
    driver = nodes.drive(folder)
    await_step(folder, driver, step=2)
    b.kill()
    c = joined(network, nodes, "node-c")
    await_step(folder, driver, step=6)
    assert_spread(run, "node-a", "node-c")
    c.kill()
    words = ended(driver, folder, code=FAILED)
    assert "on node-b died" in words
    assert "starting again (1 of 2 times)" in words
    (sentence,) = [line for line in words.splitlines() if line.startswith("the run needs places")]
    assert "the cluster has 7 CPU, 0 GPU" in sentence
    assert f"gone from it: node-b ({b.address}) and node-c ({c.address})" in sentence

    joined(network, nodes, "node-d")
    ended(nodes.drive(folder), folder, code=OK)
    assert_spread(run, "node-a", "node-d")
    assert outcome(run) == on_one_node(tmp_path / "one", recipe)


def test_a_cable_that_is_pulled(network: Network, nodes: RayNodes, tmp_path: Path) -> None:
    """No process dies at first, and none is heard of."""
    recipe = RECIPE.replace("ENGINE", "native")
    folder = project(tmp_path / "two", recipe=recipe)
    b = joined(network, nodes, "node-b")
    driver = nodes.drive(folder)
    await_step(folder, driver, step=2)
    network.unplug(b)
    joined(network, nodes, "node-c")
    words = ended(driver, folder, code=OK)
    assert "on node-b died" in words
    assert_spread(folder / "runs" / "faults", "node-a", "node-c")
    assert outcome(folder / "runs" / "faults") == on_one_node(tmp_path / "one", recipe)
