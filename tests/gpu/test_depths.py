"""The plugin of recurrent models in vLLM's runner for GPUs: a depth of its own for every token."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.generate.vllm_engine import VllmEngine
from pipeline.recurrent.request import DepthRequest
from tests.generate.vllm_requests import RULES, at_depth, recurrent, replay_gap
from tests.gpu.conftest import settings

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deep")


def test_decoding_equals_the_parallel_replay(device: str, folder: Path) -> None:
    model = recurrent(folder, halting_width=16, exit_gate=True).to(device)
    engine = VllmEngine(folder, settings(device), version=0)
    for name, choose in RULES.items():
        batch = at_depth(choose)
        rollouts = list(engine.generate(batch, version=0))
        gap, wrong = replay_gap(model, rollouts), replay_gap(model, rollouts, off=1)
        print(f"{name} on {device}: {gap:.2e} nats; {wrong:.2e} at a depth off by one")
        assert gap < 1e-3 < wrong
        for r in rollouts:
            asked = batch[r.sample].depth or DepthRequest(depth=4)
            assert r.depths is not None
            assert len(r.depths) == len(r.tokens)
            assert all(1 <= depth <= asked.planned(t) for t, depth in enumerate(r.depths))


def test_half_precision_keeps_to_the_depths_asked_for(device: str, folder: Path) -> None:
    recurrent(folder, halting_width=16, exit_gate=True)
    engine = VllmEngine(folder, settings(device, dtype="bfloat16"), version=0)
    batch = [
        replace(r, depth=DepthRequest(depth=1 + r.sample % 8)) for r in at_depth(lambda i: None)
    ]
    for r in engine.generate(batch, version=0):
        assert set(r.depths or ()) == {1 + r.sample % 8}
