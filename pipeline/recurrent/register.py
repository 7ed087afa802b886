"""Makes transformers' Auto classes know the model, without code from the model's folder."""

from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

from .classifier import RecurrentForSequenceClassification
from .config import RecurrentConfig, register_config
from .model import RecurrentForCausalLM, RecurrentModel


def register() -> None:
    """Register the configuration and the model classes. Calling it again changes nothing."""
    register_config()
    AutoModel.register(RecurrentConfig, RecurrentModel, exist_ok=True)
    AutoModelForCausalLM.register(RecurrentConfig, RecurrentForCausalLM, exist_ok=True)
    AutoModelForSequenceClassification.register(
        RecurrentConfig, RecurrentForSequenceClassification, exist_ok=True
    )
    RecurrentModel.register_for_auto_class("AutoModel")
    RecurrentForCausalLM.register_for_auto_class("AutoModelForCausalLM")
