"""How ranks share a model, as one word of the recipe: DeepSpeed's ZeRO, or torch's FSDP2."""

from typing import Any

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from pipeline.recipe.hardware import DEEPSPEED, Sharding

FSDP = {"version": 2, "state_dict_type": "SHARDED_STATE_DICT"}
SHARED_MEMORY_OP = "deepspeed_shm_comm"


def deepspeed_config(sharding: Sharding, *, device: str, dtype: str) -> dict[str, Any] | None:
    """The DeepSpeed configuration of a trainer; None leaves DeepSpeed out.

    Batch sizes and clipping are `auto`: transformers fills them in from the training arguments.
    """
    if sharding not in DEEPSPEED:
        return None
    zero: dict[str, Any] = {
        "stage": 1 + DEEPSPEED.index(sharding),
        "overlap_comm": device == "cuda",
    }
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


def sharded_arguments(sharding: Sharding, *, device: str, dtype: str) -> dict[str, Any]:
    """The training arguments that place a model: device, and DeepSpeed or FSDP2.

    `use_cpu` would have accelerate ignore either, so a sharded CPU run instead finds the state
    that `start_sharded_cpu` configured.
    """
    own_state = sharding != "none" and device == "cpu"
    return {
        "use_cpu": sharding == "none" and device == "cpu",
        "deepspeed": deepspeed_config(sharding, device=device, dtype=dtype),
        **({"fsdp": True, "fsdp_config": dict(FSDP)} if sharding == "fsdp2" else {}),
        **({"accelerator_config": {"use_configured_state": True}} if own_state else {}),
    }


def start_sharded_cpu(sharding: Sharding) -> None:
    """Configure this process for DeepSpeed or FSDP2 on the CPU; its process group exists already.

    Communication stays with gloo: DeepSpeed's own shared-memory operator would be compiled first,
    which takes a minute, and small models do not feel the difference. accelerate (1.15) allows
    FSDP2 on several accelerators of a kind alone, so it is told of one; the device stays the CPU.
    """
    if sharding == "fsdp2":
        PartialState(cpu=True).distributed_type = DistributedType.MULTI_XPU
        return
    import deepspeed  # takes seconds, and only sharded runs need it

    deepspeed.ops.__compatible_ops__[SHARED_MEMORY_OP] = False
    deepspeed.comm.init_distributed("gloo", auto_mpi_discovery=False, verbose=False)
    state = PartialState(cpu=True)
    state.distributed_type = DistributedType.DEEPSPEED
