"""LoRA in training, by peft (arXiv 2106.09685): a model's weights stay, adapters beside them learn.

Engines, and all who read what a stage made, get whole weights (`whole_weights.full_weights`).
"""

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pipeline.errors import WrongInput
from pipeline.plan.lora_targets import is_target, no_later, target_mistakes
from pipeline.recipe.hardware import DEEPSPEED
from pipeline.recipe.lora import ALL_LINEAR, Lora
from pipeline.recurrent.model import RecurrentModel
from pipeline.train.job import ADAPTER_FOLDER, TrainJob
from pipeline.train.whole_weights import base_of, trained_weights

HEADS = ("score",)  # of a reward model: new, so trained whole
BRIDGE = "injection"  # of a recurrent model, from one iteration to the next


class AdapterError(WrongInput):
    """Targets that the model has no linear layer for."""


def transformers_model(model: nn.Module) -> PreTrainedModel:
    """The model of transformers that is trained, or that adapters stand in."""
    base = base_of(model)
    assert isinstance(base, PreTrainedModel)
    return base


def with_adapters(model: PreTrainedModel, job: TrainJob) -> PreTrainedModel | PeftModel:
    """The model as the job trains it: itself, or in peft's surroundings, first factors drawn from
    the job's seed and second ones zero.

    What decides a recurrent model's depths gets no adapter. Adapters learn in float32; DeepSpeed
    keeps such copies itself.

    Raises:
        AdapterError: the model has no linear layer of a target's name, or none for later
            iterations alone.
    """
    lora = job.spec.lora
    if lora is None:
        return model
    layers = _linear_layers(model)
    called = f"the model in {job.model}"
    mistakes = list(target_mistakes(lora, layers, model=called))
    if mistakes:
        raise AdapterError("; ".join(f"lora.{mistake}" for mistake in mistakes))
    targets = _targets(model, layers, lora)
    if not targets:
        raise AdapterError(f"lora.{no_later(called)}")
    generates = model.can_generate()
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM if generates else TaskType.SEQ_CLS,
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=targets,
        exclude_modules=_others(model, layers, lora.names) or None,
        modules_to_save=_whole(model, lora, generates=generates) or None,
    )
    torch.manual_seed(job.seed)
    adapted = get_peft_model(model, config, autocast_adapter_dtype=job.sharding not in DEEPSPEED)
    assert isinstance(adapted, PeftModel)
    if job.sharding not in DEEPSPEED:
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    if job.spec.gradient_checkpointing:
        adapted.enable_input_require_grads()
    return adapted


def save_adapters(model: nn.Module, job: TrainJob) -> None:
    """Write adapters in peft's form beside the job's model, on rank 0; every rank calls."""
    if not isinstance(model, PeftModel):
        return
    weights = trained_weights(model)
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        folder = adapter_folder(job)
        model.save_pretrained(str(folder), state_dict=weights, save_embedding_layers=False)


def adapter_folder(job: TrainJob) -> Path:
    """Where a job leaves its adapters."""
    return job.out.with_name(ADAPTER_FOLDER)


def _targets(model: PreTrainedModel, layers: list[str], lora: Lora) -> str | list[str]:
    """What peft puts adapters on."""
    if not lora.is_later:
        return ALL_LINEAR if lora.is_everywhere else lora.names
    backbone = getattr(model, "model", None)
    if not isinstance(backbone, RecurrentModel) or backbone.config.tie_iterations:
        return []
    later = list(backbone.core)[backbone.config.core_layers :]
    inside = {id(part) for block in later for part in block.modules()}
    modules = dict(model.named_modules())
    return [name for name in layers if id(modules[name]) in inside]


def _whole(model: PreTrainedModel, lora: Lora, *, generates: bool) -> list[str]:
    """Parts that learn without an adapter."""
    bridge = lora.is_later and any(BRIDGE in name for name, _ in model.named_parameters())
    return [*([] if generates else HEADS), *([BRIDGE] if bridge else [])]


def _linear_layers(model: PreTrainedModel) -> list[str]:
    """Names of the layers that may have an adapter: the output head and what decides depths have
    none."""
    head = model.get_output_embeddings() if model.can_generate() else None
    others = {id(head)} | {id(part) for module in _policies(model) for part in module.modules()}
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and id(module) not in others
        if name not in HEADS
    ]


def _others(model: PreTrainedModel, layers: list[str], targets: list[str]) -> list[str]:
    """Layers that targets would take and that have no adapter all the same."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and name not in layers
        if not targets or any(is_target(target, name) for target in targets)
        if name not in HEADS
    ]


def _policies(model: nn.Module) -> list[nn.Module]:
    """The parts of recurrent models that decide depths."""
    return [
        part
        for module in model.modules()
        if isinstance(module, RecurrentModel)
        for part in (module.halting, module.exit_gate)
        if part is not None
    ]
