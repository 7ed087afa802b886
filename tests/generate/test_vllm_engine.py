"""The vLLM engine against transformers: log-probabilities, batch independence, weight versions,
and for recurrent models the depths that tokens ran at."""

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from pipeline.generate.chat import load_chat
from pipeline.generate.engine import EngineSettings, Part, WeightVersionError
from pipeline.generate.inverse_cdf import sample, token_draws
from pipeline.generate.vllm_engine import VllmEngine
from pipeline.generate.weights import checkpoint_weights, folder_weights, pack, unpack
from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.records import Request, Rollout
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.counter import DEPTH, uniform
from pipeline.recurrent.explore import Exploration
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.policy import decision_logprob
from pipeline.recurrent.request import DepthRequest
from pipeline.train.callbacks import full_weights
from pipeline.train.engine_weights import EngineWeights
from tests.tiny_families import write_family

TOKENIZER = Path("data/models/tiny")
SETTINGS = EngineSettings(
    max_model_tokens=128,
    max_sequences=32,
    device="cpu",
    dtype="float32",
    kv_cache_gib=1,
    gpus=1,
    gpu_memory_fraction=0.5,
)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = ScratchModel(hidden=64, layers=2, heads=2, mlp=128, max_position=128)
    return materialize(ModelSource(scratch=shape), tmp_path_factory.mktemp("engine"), seed=3)


@pytest.fixture(scope="module")
def model(model_dir: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)


@pytest.fixture(scope="module")
def engine(model_dir: Path) -> VllmEngine:
    return VllmEngine(model_dir, SETTINGS, version=0)


def requests(count: int, *, temperature: float = 1.0) -> list[Request]:
    return [
        Request(
            prompt_id=str(i),
            prompt_tokens=tuple(range(10, 15 + i % 7)),
            sample=i,
            seed=1000 + i,
            max_tokens=20,
            temperature=temperature,
        )
        for i in range(count)
    ]


@torch.no_grad()
def gap(model: PreTrainedModel, rollouts: Sequence[Rollout], *, temperature: float = 1.0) -> float:
    """Largest difference in nats between the engine's and the model's log-probabilities."""
    worst = 0.0
    for r in rollouts:
        ids = torch.tensor([[*r.prompt_tokens, *r.tokens]])
        logits = model(ids).logits[0, len(r.prompt_tokens) - 1 : -1] / temperature
        taken = logits.log_softmax(-1).gather(1, torch.tensor(r.tokens)[:, None])[:, 0]
        worst = max(worst, (taken - torch.tensor(r.logprobs)).abs().max().item())
    return worst


def test_the_samples_of_a_prompt_compute_it_once_to_its_last_whole_block(
    engine: VllmEngine, model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = []
    step = engine._engine.step

    def counted() -> Any:
        outputs = step()
        cached.extend(output.num_cached_tokens for output in outputs if output.finished)
        return outputs

    monkeypatch.setattr(engine._engine, "step", counted)
    group = [replace(r, prompt_tokens=tuple(range(30, 75))) for r in requests(8)]
    rollouts = list(engine.generate(group, version=0))
    assert sorted(cached) == [0] + [32] * 7
    assert gap(model, rollouts) < 1e-4


def by_sample(engine: VllmEngine, batch: Sequence[Request], *, version: int) -> dict[int, Rollout]:
    return {r.sample: r for r in engine.generate(batch, version=version)}


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_equal_the_trainers(
    engine: VllmEngine, model: PreTrainedModel, temperature: float
) -> None:
    rollouts = list(engine.generate(requests(16, temperature=temperature), version=0))
    assert len(rollouts) == 16
    assert gap(model, rollouts, temperature=temperature) < 1e-4


def test_a_request_does_not_depend_on_its_batch(engine: VllmEngine) -> None:
    batch = requests(12)
    together = by_sample(engine, batch, version=0)
    backwards = by_sample(engine, batch[::-1], version=0)
    alone = by_sample(engine, batch[5:6], version=0)
    assert {i: r.tokens for i, r in together.items()} == {i: r.tokens for i, r in backwards.items()}
    assert alone[5].tokens == together[5].tokens


@torch.no_grad()
def test_tokens_are_drawn_by_seed_and_position_alone(
    engine: VllmEngine, model: PreTrainedModel
) -> None:
    """The same rule as the native engine's, greedy requests and other temperatures beside."""
    batch = [
        replace(r, temperature=temperature)
        for r, temperature in zip(requests(6), [1.0, 0.0, 0.7] * 2, strict=True)
    ]
    for r in engine.generate(batch, version=engine.version):
        request = batch[r.sample]
        ids = torch.tensor([[*r.prompt_tokens, *r.tokens]])
        last = len(r.prompt_tokens) - 1
        logits = model(ids).logits[0, last:-1]
        greedy = request.temperature == 0.0
        tokens, _ = sample(
            logits,
            temperature=torch.full((len(logits),), 1.0 if greedy else request.temperature),
            top_p=None,
            greedy=torch.full((len(logits),), greedy),
            draws=token_draws(torch.tensor(r.seed), torch.arange(last, last + len(r.tokens))),
        )
        assert tuple(tokens.tolist()) == r.tokens


def test_new_weights_are_used_and_old_versions_refused(
    engine: VllmEngine, model: PreTrainedModel, model_dir: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    changed = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    engine.load_weights(unpack(pack(changed.state_dict())), version=1)
    rollouts = list(engine.generate(requests(16), version=1))
    assert gap(changed, rollouts) < 1e-4
    assert gap(model, rollouts) > 1e-2
    with pytest.raises(WeightVersionError, match="holds weight version 1, rollouts of 0"):
        next(engine.generate(requests(1), version=0))
    engine.load_weights(folder_weights(model_dir), version=2)  # a tied head comes along
    assert gap(model, list(engine.generate(requests(16), version=2))) < 1e-4


def test_a_part_of_new_weights_is_served_by_nobody(
    engine: VllmEngine, model: PreTrainedModel, model_dir: Path
) -> None:
    """A sync that breaks off anywhere is repeated as a whole, and ends in the same bits."""
    changed = [(name, tensor * 1.05) for name, tensor in folder_weights(model_dir)]
    engine.load_weights(changed, version=3)
    expected = list(engine.generate(requests(16), version=3))
    for parts in (1, 2, 3, 5):  # of five
        for number in range(parts):
            part = Part(first=number == 0, last=number == 4)
            engine.load_weights(changed[number::5], version=4, part=part)
            if part.last:
                break
            for version in (3, 4):
                with pytest.raises(WeightVersionError, match="holds a part of new weights"):
                    next(engine.generate(requests(1), version=version))
    rollouts = list(engine.generate(requests(16), version=4))
    assert [replace(r, weight_version=3) for r in rollouts] == expected
    engine.load_weights(folder_weights(model_dir), version=5)
    assert gap(model, list(engine.generate(requests(16), version=5))) < 1e-4


def test_more_prompt_tokens_than_a_step_takes(
    engine: VllmEngine, model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = engine._engine.engine_core.engine_core.scheduler
    monkeypatch.setattr(scheduler, "max_num_scheduled_tokens", 200)
    batch = [replace(r, prompt_tokens=tuple(range(10, 100)), max_tokens=2) for r in requests(5)]
    rollouts = list(engine.generate(batch, version=engine.version))
    assert len(rollouts) == 5
    assert gap(model, rollouts) < 1e-4


def test_a_dense_model_has_no_depth(engine: VllmEngine) -> None:
    batch = replace(requests(1)[0], depth=DepthRequest(depth=2))
    with pytest.raises(ValueError, match="'0' asks for a depth, and the model has no core"):
        next(engine.generate([batch], version=engine.version))


def test_it_does_not_explore(engine: VllmEngine) -> None:
    batch = replace(requests(1)[0], explore=Exploration(paths=2, noise=0.1))
    with pytest.raises(ValueError, match=r"asks to explore.*set hardware\.engine: native"):
        next(engine.generate([batch], version=engine.version))


def recurrent(folder: Path, **changes: Any) -> RecurrentForCausalLM:
    """A random recurrent model and its folder; every norm and gate is off its initial value."""
    sizes = {
        "vocab_size": 102,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.1,
    }
    torch.manual_seed(5)
    model = RecurrentForCausalLM(RecurrentConfig(**(sizes | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    save(model, folder)
    return model


def save(model: RecurrentForCausalLM, folder: Path) -> None:
    model.save_pretrained(folder)
    for file in TOKENIZER.glob("token*"):
        shutil.copy(file, folder)


@pytest.fixture(scope="module")
def deep_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deep")


@pytest.fixture(scope="module")
def deep(deep_dir: Path) -> RecurrentForCausalLM:
    return recurrent(deep_dir, halting_width=16, exit_gate=True)


@pytest.fixture(scope="module")
def deep_engine(deep: RecurrentForCausalLM, deep_dir: Path) -> VllmEngine:
    return VllmEngine(deep_dir, replace(SETTINGS, max_model_tokens=256), version=0)


def at_depth(
    choose: Callable[[int], DepthRequest | None], *, count: int = 12, prompt: int = 5
) -> list[Request]:
    return [
        replace(
            r,
            prompt_tokens=tuple(10 + (7 * j) % 60 for j in range(prompt + r.sample % 7)),
            depth=choose(r.sample),
        )
        for r in requests(count)
    ]


@torch.no_grad()
def replay_gap(model: RecurrentForCausalLM, rollouts: Sequence[Rollout], *, off: int = 0) -> float:
    """Largest difference in nats to the parallel pass at the recorded depths, moved by `off`."""
    worst = 0.0
    for r in rollouts:
        ids = torch.tensor([[*r.prompt_tokens, *r.tokens]])
        logits = model(ids, depths=recorded(r, off=off)).logits[0, len(r.prompt_tokens) - 1 : -1]
        taken = logits.log_softmax(-1).gather(1, torch.tensor(r.tokens)[:, None])[:, 0]
        worst = max(worst, (taken - torch.tensor(r.logprobs)).abs().max().item())
    return worst


def recorded(r: Rollout, *, off: int = 0) -> torch.Tensor:
    """Depths [1, T] of prompt and completion; the last token never ran."""
    assert r.depths is not None
    assert r.prompt_depth is not None
    before = [r.prompt_depth] * (len(r.prompt_tokens) - 1)
    return (torch.tensor([[*before, *r.depths, 1]]) + off).clamp(1, 8)


def scheduled(sample: int) -> DepthRequest:
    drawn = random.Random(sample)
    schedule = tuple(drawn.randint(1, 8) for _ in range(15))
    return DepthRequest(rule="schedule", depth=3, schedule=schedule, prompt_depth=1 + sample % 4)


RULES: dict[str, Callable[[int], DepthRequest | None]] = {
    "configured": lambda i: None,
    "one": lambda i: DepthRequest(depth=1),
    "mixed": lambda i: DepthRequest(depth=1 + i % 8, prompt_depth=1 + 3 * i % 8),
    "schedule": scheduled,
    "sampled": lambda i: DepthRequest(
        rule="policy", depth=8, sampled=True, prompt_depth=4, log_price=-2.0, min_depth=1 + i % 3
    ),
    "segments": lambda i: DepthRequest(rule="policy", depth=8, sampled=True, segment=1 + i % 4),
    "likelier": lambda i: DepthRequest(rule="policy", depth=6, log_price=float(i)),
    "rules": lambda i: DepthRequest(
        rule=("kl", "latent", "entropy", "second_order", "q_exit", "fixed")[i % 6],  # type: ignore[arg-type]
        threshold=(0.3, 0.6, 3.0, 0.9, 0.9, None)[i % 6],
        depth=8,
        prompt_depth=3,
    ),
}


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


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mixtral", "olmoe"])
def test_families_keep_the_trainers_logprobs_with_new_weights(family: str, tmp_path: Path) -> None:
    """Experts, whose weights vLLM packs for the CPU."""
    write_family(family, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    engine = VllmEngine(tmp_path, SETTINGS, version=0)
    assert gap(model, list(engine.generate(requests(8), version=0))) < 1e-4
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    engine.load_weights(checkpoint_weights(model, full_weights(model)).items(), version=1)
    rollouts = list(engine.generate(requests(8), version=1))
    assert gap(model, rollouts) < 1e-4
    weights = EngineWeights(model, named=model, bucket_bytes=2**12)
    for number, bucket in enumerate(weights, 1):
        part = Part(first=number == 1, last=number == len(weights))
        engine.load_weights(unpack(pack(bucket)), version=1, part=part)
    assert list(engine.generate(requests(8), version=1)) == rollouts


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma", "phi3", "glm", "llama3", "qwen_base", "zephyr"])
def test_it_stops_at_a_template_s_turn_end(
    make_family: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    family = load_chat(make_family(name))
    end = family.turn_end.text
    source = make_family(name, says=end)
    chat = load_chat(materialize(ModelSource(path=str(source)), tmp_path / "model"))
    engine = VllmEngine(tmp_path / "model", SETTINGS, version=0)
    request = replace(requests(1)[0], prompt_tokens=chat.prompt_ids(chat.render("Hi?", ())))
    (rollout,) = engine.generate([request], version=0)
    assert rollout.tokens == (chat.row_end,)
    assert rollout.stop == "eos"
    assert chat.completion_text(rollout) == ""
