"""The recurrent backbone under a score, as reward models are."""

from transformers.modeling_layers import GenericForSequenceClassification

from .model import RecurrentPreTrainedModel


class RecurrentForSequenceClassification(
    GenericForSequenceClassification, RecurrentPreTrainedModel
):
    """Scores [B, labels] of the last token that is no padding."""
