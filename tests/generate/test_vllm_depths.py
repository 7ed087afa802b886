"""The vLLM engine on recurrent models: every rule of depth, and the parallel replay."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.generate.vllm_engine import VllmEngine
from pipeline.generate.weights import folder_weights, pack, unpack
from pipeline.recurrent.counter import DEPTH, uniform
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.policy import decision_logprob
from pipeline.recurrent.request import DepthRequest
from tests.generate.vllm_requests import (
    RULES,
    SETTINGS,
    at_depth,
    by_sample,
    recorded,
    recurrent,
    replay_gap,
    scheduled,
)


@pytest.fixture(scope="module")
def deep_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deep")


@pytest.fixture(scope="module")
def deep(deep_dir: Path) -> RecurrentForCausalLM:
    return recurrent(deep_dir, halting_width=16, exit_gate=True)


@pytest.fixture(scope="module")
def deep_engine(deep: RecurrentForCausalLM, deep_dir: Path) -> VllmEngine:
    return VllmEngine(deep_dir, replace(SETTINGS, max_model_tokens=256), version=0)


@pytest.mark.parametrize("name", RULES)
def test_decoding_equals_the_parallel_replay(
    deep_engine: VllmEngine, deep: RecurrentForCausalLM, name: str
) -> None:
    batch = at_depth(RULES[name])
    rollouts = list(deep_engine.generate(batch, version=0))
    assert replay_gap(deep, rollouts) < 1e-4
    assert replay_gap(deep, rollouts, off=1) > 1e-3
    for r in rollouts:
        request = batch[r.sample].depth or DepthRequest(depth=4)
        assert r.depths is not None
        assert len(r.depths) == len(r.tokens)
        assert all(1 <= d <= request.planned(t) for t, d in enumerate(r.depths))
        assert all(d >= min(request.min_depth, request.planned(0)) for d in r.depths)
        assert r.flops > 0
    assert (rollouts[0].depth_logprobs is None) == (name not in ("sampled", "segments"))
    if name in ("sampled", "rules", "schedule", "mixed", "segments"):
        assert len({d for r in rollouts for d in r.depths or ()}) > 3


def test_a_token_and_its_depth_do_not_depend_on_the_batch(deep_engine: VllmEngine) -> None:
    batch = at_depth(lambda i: RULES[("sampled", "schedule", "rules")[i % 3]](i))
    together = by_sample(deep_engine, batch, version=0)
    for number in (3, 4, 5):
        alone = by_sample(deep_engine, batch[number : number + 1], version=0)[number]
        assert (alone.tokens, alone.depths) == (together[number].tokens, together[number].depths)


@torch.no_grad()
def test_a_sampled_policy_replays(deep_engine: VllmEngine, deep: RecurrentForCausalLM) -> None:
    policy = deep.model.halting
    assert policy is not None
    for r in deep_engine.generate(at_depth(RULES["sampled"]), version=0):
        request = RULES["sampled"](r.sample)
        assert request is not None
        assert r.depths is not None
        ids = torch.tensor([[*r.prompt_tokens, *r.tokens]])
        out = deep.model(ids, depths=recorded(r), output_hidden_states=True)
        states = [s[0, len(r.prompt_tokens) - 1 : -1] for s in out.hidden_states]
        position = torch.arange(len(r.tokens)) + len(r.prompt_tokens) - 1
        depth, chance = torch.tensor(r.depths), torch.zeros(len(r.tokens))
        price = torch.full((len(r.tokens),), request.log_price)
        for i in range(request.min_depth, min(len(states), request.depth)):
            logit = policy(states[i], states[i - 1], torch.full_like(depth, i), price)
            goes_on = uniform(torch.tensor(r.seed), position, i, stream=DEPTH) < logit.sigmoid()
            reaches = depth >= i
            assert torch.equal(goes_on[reaches], (depth > i)[reaches])
            chance += torch.where(reaches, decision_logprob(logit, depth > i), 0)
        assert (chance - torch.tensor(r.depth_logprobs)).abs().max() < 1e-5


def test_segments_share_a_depth(deep_engine: VllmEngine) -> None:
    for r in deep_engine.generate(at_depth(RULES["segments"]), version=0):
        assert r.depths is not None
        assert r.depth_logprobs is not None
        segment = 1 + r.sample % 4
        first = [t - t % segment for t in range(len(r.depths))]
        assert r.depths == tuple(r.depths[t] for t in first)
        assert all(c == 0 for t, c in enumerate(r.depth_logprobs) if t % segment)


def test_cached_prefixes_are_those_of_the_same_depth(
    deep_engine: VllmEngine, deep: RecurrentForCausalLM
) -> None:
    """Blocks hold 32 tokens; the first requests leave them for the next."""
    for depths in ((2, 5), (6, 5), (2, 3), (3, 3)):
        request = DepthRequest(depth=depths[1], prompt_depth=depths[0])
        batch = at_depth(lambda i, request=request: request, count=4, prompt=160)
        assert replay_gap(deep, list(deep_engine.generate(batch, version=0))) < 1e-4
    # the completion of one prompt as the beginning of another
    first = next(deep_engine.generate(at_depth(scheduled, count=1, prompt=125), version=0))
    longer = replace(
        at_depth(lambda i: DepthRequest(depth=4, prompt_depth=1), count=1)[0],
        prompt_tokens=(*first.prompt_tokens, *first.tokens),
    )
    assert first.prompt_depth == 1
    assert replay_gap(deep, list(deep_engine.generate([longer], version=0))) < 1e-4


def test_prefill_in_chunks(
    deep_engine: VllmEngine, deep: RecurrentForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedily: vLLM's CPU runner breaks on a chunk of a request with a seed of its own."""
    scheduler = deep_engine._engine.engine_core.engine_core.scheduler
    monkeypatch.setattr(scheduler, "max_num_scheduled_tokens", 13)
    monkeypatch.setattr(scheduler.scheduler_config, "enable_chunked_prefill", True)
    for name in ("mixed", "rules"):
        chunked = at_depth(RULES[name], count=6, prompt=20)
        batch = [replace(r, temperature=0.0) for r in chunked]
        assert replay_gap(deep, list(deep_engine.generate(batch, version=0))) < 1e-4


def test_preempted_requests_replay_their_depths(
    deep_engine: VllmEngine, deep: RecurrentForCausalLM
) -> None:
    batch = [replace(r, max_tokens=4 if r.sample == 0 else 20) for r in at_depth(RULES["sampled"])]
    undisturbed = by_sample(deep_engine, batch, version=0)
    running = deep_engine.generate(batch, version=0)
    rollouts = [next(running)]
    deep_engine._engine.reset_prefix_cache(reset_running_requests=True)
    rollouts += running
    assert replay_gap(deep, rollouts) < 1e-4
    assert {r.sample: (r.tokens, r.depths) for r in rollouts} == {
        i: (r.tokens, r.depths) for i, r in undisturbed.items()
    }


def test_impossible_depths_are_refused(deep_engine: VllmEngine) -> None:
    with pytest.raises(ValueError, match="depth of 9 is over the model's max_iterations=8"):
        next(deep_engine.generate(at_depth(lambda i: DepthRequest(depth=9)), version=0))


def test_abandoned_requests_leave_nothing_behind(deep_engine: VllmEngine) -> None:
    running: Any = deep_engine.generate(
        [replace(r, max_tokens=2 + r.sample) for r in at_depth(RULES["sampled"])], version=0
    )
    next(running)
    running.close()
    assert deep_engine._engine.collective_rpc(_logged) == [0]


def _logged(worker: Any) -> int:
    return len(worker.model_runner.get_model().depths)


def test_new_weights_of_a_recurrent_model(
    deep_engine: VllmEngine, deep: RecurrentForCausalLM, deep_dir: Path
) -> None:
    batch = at_depth(RULES["sampled"])
    changed = RecurrentForCausalLM.from_pretrained(deep_dir).eval()
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += 0.02 * torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(0)
            )
    deep_engine.load_weights(unpack(pack(changed.state_dict())), version=1)
    assert replay_gap(changed, list(deep_engine.generate(batch, version=1))) < 1e-4
    deep_engine.load_weights(folder_weights(deep_dir), version=0)
    assert replay_gap(deep, list(deep_engine.generate(batch, version=0))) < 1e-4


VARIANTS: dict[str, dict[str, Any]] = {
    "gated": {"injection": "gated", "block_style": "pre", "exit_norm": False},
    "added": {"injection": "add", "state_init": "normal", "state_init_std": 0.5},
    "looped": {
        "injection": "none",
        "state_init": "input",
        "block_style": "branch",
        "prelude_layers": 0,
        "coda_layers": 0,
        "exit_norm": False,
        "iteration_norm": True,
    },
    "biased": {
        "qkv_bias": True,
        "output_bias": True,
        "mlp_bias": True,
        "qk_norm": True,
        "num_key_value_heads": 1,
        "tie_word_embeddings": False,
        "embedding_scale": 3.0,
        "final_norm": False,
    },
    "untied": {
        "injection": "none",
        "state_init": "input",
        "block_style": "pre",
        "exit_norm": False,
        "tie_iterations": False,
        "core_layers": 1,
    },
    "untied, two layers": {
        "injection": "none",
        "state_init": "input",
        "block_style": "branch",
        "tie_iterations": False,
        "num_key_value_heads": 1,
        "qk_norm": True,
    },
    "untied, injected": {"injection": "linear", "tie_iterations": False},
    "copied": {
        "injection": "gated",
        "block_style": "pre",
        "exit_norm": False,
        "tie_iterations": False,
        "core_layers": 2,
    },
    "experts": {"num_experts": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_choice_of_the_architecture(name: str, tmp_path: Path) -> None:
    model = recurrent(tmp_path, **VARIANTS[name])
    engine = VllmEngine(tmp_path, SETTINGS, version=0)
    for rule in ("mixed", "schedule"):
        assert replay_gap(model, list(engine.generate(at_depth(RULES[rule]), version=0))) < 1e-4
    engine.load_weights(unpack(pack(model.state_dict())), version=1)
    assert replay_gap(model, list(engine.generate(at_depth(scheduled), version=1))) < 1e-4
