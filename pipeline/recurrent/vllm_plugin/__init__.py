"""Recurrent models in vLLM: an out-of-tree model and the hooks that give each token its depth.

Loaded by vLLM through the entry-point group `vllm.general_plugins`, in every process it starts.
"""

from ..config import MODEL_TYPE, RecurrentConfig

ARCHITECTURE = "RecurrentForCausalLM"


def register() -> None:
    """Make vLLM know the configuration, the model and its hooks. Calling again changes nothing.

    vLLM is imported here, not above: importing this package must not start it.
    """
    from transformers import AutoConfig
    from vllm import ModelRegistry

    from .hooks import install
    from .orphans import end_with_parent

    end_with_parent()
    AutoConfig.register(MODEL_TYPE, RecurrentConfig, exist_ok=True)
    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, f"{__name__}.served_model:{ARCHITECTURE}")
    install()
