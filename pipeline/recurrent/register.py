"""Makes transformers' Auto classes know the model, without code from the model's folder."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from .config import MODEL_TYPE, RecurrentConfig
from .model import RecurrentForCausalLM, RecurrentModel


def register() -> None:
    """Register the configuration and both model classes. Calling it again changes nothing."""
    AutoConfig.register(MODEL_TYPE, RecurrentConfig, exist_ok=True)
    AutoModel.register(RecurrentConfig, RecurrentModel, exist_ok=True)
    AutoModelForCausalLM.register(RecurrentConfig, RecurrentForCausalLM, exist_ok=True)
    RecurrentConfig.register_for_auto_class()
    RecurrentModel.register_for_auto_class("AutoModel")
    RecurrentForCausalLM.register_for_auto_class("AutoModelForCausalLM")
