"""DeepSpeed ZeRO as one word of the recipe."""

from typing import Any

from pipeline.recipe import Sharding

STAGES: dict[Sharding, int] = {"none": 0, "zero1": 1, "zero2": 2, "zero3": 3}


def deepspeed_config(sharding: Sharding, *, device: str, dtype: str) -> dict[str, Any] | None:
    """The DeepSpeed configuration of a trainer; None leaves DeepSpeed out.

    Batch sizes and clipping are `auto`: transformers fills them in from the training arguments.
    """
    if sharding == "none":
        return None
    zero: dict[str, Any] = {"stage": STAGES[sharding], "overlap_comm": device == "cuda"}
    if sharding == "zero3":
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": dtype == "bfloat16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
