"""One step of the joint phase on the tokens: files in, files out, the same every time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.depth.model import head as heads
from pipeline.depth.model.packing import packed
from pipeline.depth.rl import joint_update
from pipeline.depth.trainer_jobs import HeadJob, TokenUpdate
from pipeline.generate.engine import EngineSettings
from pipeline.generate.native_engine import NativeEngine
from pipeline.generate.weights import folder_weights, unpack
from pipeline.records import Request, Rollout
from pipeline.recurrent.request import DepthRequest

MakeJob = Callable[..., HeadJob]
MakeScored = Callable[..., Path]
CORE = "model.core.0.mlp.down_proj.weight"


def spec(**changes: Any) -> TokenUpdate:
    given: dict[str, Any] = {
        "step": 0,
        "lr": 1e-3,
        "updates": 1,
        "micro_batch_rows": 5,
        "backprop_iterations": 2,
        "clip": 0.2,
        "kl": 0.0,
        "temperature": 1.0,
    }
    return TokenUpdate(**(given | changes))


def step(job: HeadJob, scored: Path, new: Path, **options: Any) -> dict[str, Any]:
    state = options.pop("state", None)
    return joint_update.update(
        job, scored, state=state, new_state=new, reference=job.model, spec=spec(**options)
    )


def tensors(state: Path) -> dict[str, torch.Tensor]:
    return {k: v for k, v in load_file(state).items() if not k.startswith("optimizer.")}


def test_a_step_changes_the_tokens_and_leaves_what_decides_depths(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, tmp_path: Path
) -> None:
    job, new = make_job(), tmp_path / "state.safetensors"
    found = step(job, make_scored(rollouts), new)
    assert found["logprob_gap"] < 1e-4
    assert (found["members"], found["left_out"], found["alarms"]) == (12, 0, [])
    assert found["clipped_share"] == 0.0
    assert abs(found["policy"]) < 1e-4  # ratios are 1 and advantages add up to 0
    assert found["grad_norm"] > 0
    depths = [d for r in rollouts for d in r.depths or ()]
    assert found["depth_mean"] == pytest.approx(sum(depths) / len(depths))

    before = dict(folder_weights(job.model))
    assert not [k for k in load_file(new) if heads.HALTING in k]
    assert (tensors(new)[CORE] - before[CORE]).abs().max() > 1e-4
    out = joint_update.export_model(job, new)
    after = dict(folder_weights(out))
    assert after.keys() == before.keys()
    trained = tensors(new)
    for name in after:
        if name.startswith(heads.HALTING):
            assert torch.equal(after[name], before[name])
        elif name != "lm_head.weight":  # tied
            assert torch.equal(after[name], trained[name])
    assert (out / "chat_template.jinja").is_file()
    assert (out / "config.json").read_bytes() == (job.model / "config.json").read_bytes()


def test_steps_repeat_and_go_on_from_their_file(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, tmp_path: Path
) -> None:
    job, scored = make_job(), make_scored(rollouts)

    def second(name: str) -> bytes:
        first = tmp_path / f"{name}0"
        step(job, scored, first, kl=0.1, updates=2)
        step(job, scored, tmp_path / f"{name}1", kl=0.1, updates=2, step=1, state=first)
        return (tmp_path / f"{name}1").read_bytes()

    assert second("a") == second("b")
    held = load_file(tmp_path / "a1")
    assert held[f"optimizer.{CORE}.step"] == 4
    with pytest.raises(ValueError, match="is of step 0: step 2"):
        step(job, scored, tmp_path / "c", step=2, state=tmp_path / "a0")


def test_micro_batches_are_memory_only(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, tmp_path: Path
) -> None:
    job, scored = make_job(), make_scored(rollouts)
    norms = [
        step(job, scored, tmp_path / f"{rows}", micro_batch_rows=rows, kl=0.1)["grad_norm"]
        for rows in (1, 5, 64)
    ]
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-4)


def test_a_step_goes_on_from_the_states_weights_not_from_the_folders(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, tmp_path: Path
) -> None:
    """Old rollouts under new weights: the gap says so, and ratios leave the clip."""
    job, scored = make_job(), make_scored(rollouts)
    found: dict[str, Any] = {}
    for number in range(4):
        state = None if number == 0 else tmp_path / f"{number - 1}"
        found = step(job, scored, tmp_path / f"{number}", lr=1e-2, step=number, state=state, kl=0.1)
    assert found["logprob_gap"] > 0.3
    assert found["clipped_share"] > 0.05
    assert found["kl"] > 1e-3
    assert found["token_loss"] == pytest.approx(found["policy"] + 0.1 * found["kl"])
    assert any("nats apart" in said for said in found["alarms"])


def test_groups_that_agree_teach_nothing_and_say_so(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, tmp_path: Path
) -> None:
    job, new = make_job(), tmp_path / "state"
    found = step(job, make_scored(rollouts, rewards=[1.0] * 12), new)
    assert found["grad_norm"] == 0.0
    assert any("tokens learn nothing" in said for said in found["alarms"])
    before = dict(folder_weights(job.model))
    assert all(torch.equal(v, before[k]) for k, v in tensors(new).items())


def test_members_without_a_reward_are_left_out(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, tmp_path: Path
) -> None:
    job = make_job()
    some: list[float | None] = [None, *[1.0, 0.0] * 5, 1.0]
    assert step(job, make_scored(rollouts, rewards=some), tmp_path / "s")["left_out"] == 1
    with pytest.raises(ValueError, match="no member in .* has a reward"):
        step(job, make_scored(rollouts, rewards=[None] * 12), tmp_path / "s")


def test_a_bfloat16_model_learns_in_float32(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, tmp_path: Path
) -> None:
    job, new = make_job(dtype="bfloat16"), tmp_path / "state"
    step(job, make_scored(rollouts), new, lr=1e-6)
    after, before = tensors(new)[CORE], dict(folder_weights(job.model))[CORE].bfloat16().float()
    assert after.dtype == torch.float32
    moved = (after - before).abs()
    assert 1e-7 < moved.max() < 2e-6  # less than bfloat16 could hold
    assert torch.equal(dict(unpack(packed(new)))[CORE], after)


def test_an_engine_takes_the_states_weights(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, tmp_path: Path
) -> None:
    job, scored, new = make_job(), make_scored(rollouts), tmp_path / "0"
    step(job, scored, new, lr=1e-2)
    engine = engine_on(job.model)
    engine.load_weights(unpack(packed(new)), version=1)
    exported = engine_on(joint_update.export_model(job, new), version=1)
    runs = [list(e.generate(requests(0, version=1), version=1)) for e in (engine, exported)]
    fresh, saved = [sorted(r, key=lambda r: (r.prompt_id, r.sample)) for r in runs]
    assert fresh == saved
    found = step(
        job, make_scored(fresh, rewards=[1.0, 0.0] * 12), tmp_path / "1", step=1, state=new
    )
    assert found["logprob_gap"] < 1e-4


def engine_on(folder: Path, *, version: int = 0) -> NativeEngine:
    settings = EngineSettings(
        max_model_tokens=48,
        max_sequences=64,
        device="cpu",
        dtype="float32",
        kv_cache_gib=0.1,
        gpus=1,
        gpu_memory_fraction=0.5,
    )
    return NativeEngine(folder, settings, version=version)


def requests(number: int, *, version: int = 0) -> list[Request]:
    """Groups of six of four prompts, at depths that the head draws."""
    return [
        Request(
            prompt_id=f"p{prompt}",
            prompt_tokens=(3 + prompt, 7, 5),
            sample=sample,
            seed=10_000 * number + 100 * prompt + sample,
            max_tokens=6,
            temperature=1.0,
            depth=DepthRequest(rule="policy", depth=4, prompt_depth=2, sampled=True),
        )
        for prompt in range(4)
        for sample in range(6)
    ]


def evens(run: Rollout) -> float:
    """The outcome: the share of even tokens."""
    return sum(token % 2 == 0 for token in run.tokens) / len(run.tokens)


def test_tokens_learn_what_pays(make_job: MakeJob, make_scored: MakeScored, tmp_path: Path) -> None:
    """Real rollouts at the policy's depths, with the newest weights in every step."""
    job = make_job(batch_rows=24)
    engine = engine_on(job.model)
    rewards, state = [], None
    for number in range(14):
        runs = list(engine.generate(requests(number), version=0))
        runs.sort(key=lambda r: (r.prompt_id, r.sample))
        outcomes: list[float | None] = [evens(run) for run in runs]
        rewards.append(sum(o or 0.0 for o in outcomes) / len(outcomes))
        new = tmp_path / f"{number}"
        found = step(
            job,
            make_scored(runs, rewards=outcomes),
            new,
            lr=3e-3,
            step=number,
            state=state,
            micro_batch_rows=24,
        )
        assert found["logprob_gap"] < 1e-4
        state = new
        engine.load_weights(unpack(packed(new)), version=0)
    assert sum(rewards[:3]) / 3 < 0.6
    assert sum(rewards[-3:]) / 3 > 0.85
