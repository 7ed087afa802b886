"""The score head on the recurrent backbone."""

from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from pipeline.recurrent.classifier import RecurrentForSequenceClassification
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.register import register


def test_a_row_is_scored_at_its_last_token_and_survives_saving(tmp_path: Path) -> None:
    register()
    config = RecurrentConfig(
        vocab_size=20, hidden_size=64, intermediate_size=96, num_attention_heads=2, pad_token_id=0
    )
    config.num_labels = 1
    model = RecurrentForSequenceClassification(config).eval()
    rows = torch.randint(1, 20, (3, 8))
    alone = model(rows).logits
    padded = torch.cat((rows, torch.zeros(3, 2, dtype=torch.long)), dim=1)
    mask = (padded != 0).long()
    assert alone.shape == (3, 1)
    assert torch.allclose(model(padded, attention_mask=mask).logits, alone, atol=1e-5)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert torch.allclose(loaded(rows).logits, alone, atol=1e-6)
