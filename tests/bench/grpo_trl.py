"""TRL's sides of `tests.bench.grpo`: plain `GRPOTrainer` as a careful user sets it up on a CPU.

Float32, no autocast, no gradient checkpointing, no checkpoints, generation by `generate` or by vLLM
in the same process. TRL's own way of giving vLLM weights fails on a CPU, where vLLM repacks them as
it loads: they go through the model runner's reload, which repacks again. vLLM runs eager there:
compiling takes longer than it gives back in a run of minutes.
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from pipeline.generate.chat import load_chat
from pipeline.generate.schedule import prompts_of_step
from pipeline.generate.vllm_engine import engine_environment
from pipeline.generate.weights import checkpoint_weights
from pipeline.measure.ledger import PhaseClock
from pipeline.prompts.entries import load_entry
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.records import Prompt
from pipeline.recurrent.register import register
from pipeline.train.arguments import ADAM_BETAS, MAX_GRAD_NORM, load_tokenizer
from pipeline.train.grpo_loss import SCALE, TRUNCATION_CAP, Objective
from tests.bench.grpo_task import Judge, Log, Side, completion, judges_of
from tests.bench.models import settings

VLLM_TOKENS = 1024  # of a prompt and its completion
VLLM_SEQUENCES = 256  # at once, as our engines

Reward = Callable[..., list[float | None]]


def run(side: Side, *, started: float, vllm: bool) -> dict[str, Any]:
    """Seconds by phase of each step; what is neither generation, rewards nor sync is training."""
    if vllm:
        _vllm_on_cpu()
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    log, phases = Log(Path(side.work), side.every), PhaseClock()
    log.mark("start", began=started)
    torch.set_num_threads(side.threads)
    register()
    plan = side.plan()
    (stage,) = plan.stages
    spec = stage.spec
    assert isinstance(spec, GrpoStage)
    chat = load_chat(side.model)
    prompts = _in_order(load_entry(plan.recipe, spec.prompts).prompts, spec, seed=stage.seed)
    shown = [chat.render(prompt.question, (), prompt.context) for prompt in prompts]
    tokenizer: Any = load_tokenizer(side.model)
    assert [tuple(ids) for ids in tokenizer(text=shown)["input_ids"]] == [
        chat.prompt_ids(text) for text in shown
    ], "TRL would sample from other tokens than we do"

    class Plain(GRPOTrainer):
        """With a clock around the parts that it has."""

        def _generate_single_turn(self, *arguments: Any, **options: Any) -> Any:
            with phases.during("generation"):
                return super()._generate_single_turn(*arguments, **options)

        def _calculate_rewards(self, *arguments: Any, **options: Any) -> Any:
            with phases.during("verification"):
                return super()._calculate_rewards(*arguments, **options)

    judges = judges_of(plan)
    log.mark("begin")
    trainer = Plain(
        model=str(side.model),
        reward_funcs=[_reward(judge, prompts, shown, chat) for judge in judges],  # pyright: ignore
        args=GRPOConfig(
            output_dir=str(Path(side.work) / "trl"),
            **config(spec, seed=stage.seed, weights=[judge.weight for judge in judges], vllm=vllm),
        ),
        train_dataset=Dataset.from_dict({"prompt": shown, "row": list(range(len(shown)))}),
        processing_class=tokenizer,
    )
    if vllm:
        _mend_sync(trainer, phases)
    notes = _Notes(log, phases)
    trainer.add_callback(notes)
    trainer.train()
    return {"ended_s": time.monotonic() - started, "rows": notes.rows}


def config(spec: GrpoStage, *, seed: int, weights: Sequence[float], vllm: bool) -> dict[str, Any]:
    """The stage in TRL's terms: one update a step, in passes of `micro_batch_rows`."""
    completions = spec.completions_per_step
    rows = min(spec.micro_batch_rows, completions)
    objective = Objective.of(
        variant=spec.variant, clip=spec.clip, kl=spec.kl, max_tokens=spec.max_tokens
    )
    return {
        "max_steps": spec.steps,
        "seed": seed,
        "learning_rate": spec.lr,
        "lr_scheduler_type": "constant",
        "adam_beta1": ADAM_BETAS[0],
        "adam_beta2": ADAM_BETAS[1],
        "weight_decay": 0.0,
        "max_grad_norm": MAX_GRAD_NORM,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": completions // rows,
        "num_generations": spec.samples_per_prompt,
        "max_completion_length": spec.max_tokens,
        "temperature": spec.temperature,
        "reward_weights": list(weights),
        "loss_type": spec.variant,
        "scale_rewards": SCALE[spec.variant],
        "epsilon": objective.low,
        "epsilon_high": objective.high,
        "beta": spec.kl,
        "use_bias_correction_kl": False,
        "sync_ref_model": bool(spec.kl) and spec.reference_every is not None,
        "ref_model_mixup_alpha": 1.0,
        "ref_model_sync_steps": spec.reference_every or spec.steps + 1,
        "shuffle_dataset": False,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "model_init_kwargs": {"dtype": torch.float32},
        "trust_remote_code": True,
        "use_vllm": vllm,
        "vllm_mode": "colocate",
        "vllm_max_model_length": VLLM_TOKENS,
        "vllm_importance_sampling_mode": "token_truncate",
        "vllm_importance_sampling_clip_max": TRUNCATION_CAP,
    }


def _in_order(prompts: Sequence[Prompt], spec: GrpoStage, *, seed: int) -> list[Prompt]:
    """The prompts of all steps, as our rollout service takes them."""
    count = spec.prompts_per_step
    return [
        prompt
        for step in range(spec.steps)
        for prompt in prompts_of_step(prompts, seed=seed, step=step, count=count)
    ]


def _reward(judge: Judge, prompts: Sequence[Prompt], shown: Sequence[str], chat: Any) -> Reward:
    """A reward as TRL calls it, on the text that our rewards see."""

    def reward(
        completion_ids: Sequence[Sequence[int]], row: Sequence[int], **_: Any
    ) -> list[float | None]:
        texts, ended = zip(*(completion(chat, ids) for ids in completion_ids), strict=True)
        return judge.values([(shown[i], prompts[i]) for i in row], texts, ended)

    reward.__name__ = judge.name
    return reward


class _Notes(TrainerCallback):
    def __init__(self, log: Log, phases: PhaseClock) -> None:
        self._log, self._phases = log, phases
        self.rows: list[dict[str, float]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        self._note(0, options["model"])

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._phases.take()
        self._phases.enter("training")

    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        self.rows.append(self._phases.take())
        self._note(state.global_step, options["model"])

    def _note(self, step: int, model: Any) -> None:
        self._log.note(step, checkpoint_weights(model, model.state_dict()))


def _vllm_on_cpu() -> None:
    """What vLLM reads as it is imported, and how TRL makes an engine."""
    os.environ.update(engine_environment(settings(sequences=VLLM_SEQUENCES, tokens=VLLM_TOKENS)))
    import vllm
    from trl.generation import vllm_generation

    from pipeline.recurrent import vllm_plugin

    vllm_plugin.register()
    vllm_generation.LLM = partial(vllm.LLM, enforce_eager=True, dtype="float32")


def _mend_sync(trainer: Any, phases: PhaseClock) -> None:
    """Weights to vLLM in a way that works on a CPU."""
    generation = trainer.vllm_generation

    def sync_weights() -> None:
        with phases.during("sync"):
            model = trainer.accelerator.unwrap_model(trainer.model)
            weights = checkpoint_weights(model, model.state_dict())
            runner = generation.llm.llm_engine.model_executor.driver_worker.model_runner
            runner.reload_weights(weights_iterator=iter(weights.items()))
            generation.llm.reset_prefix_cache()

    generation.sync_weights = sync_weights
