"""Scores of a trained reward model, by plain transformers."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from pipeline.generate.chat import Chat, load_chat
from pipeline.recurrent.register import register

BATCH_ROWS = 32  # of similar length; memory only


def scored_ids(chat: Chat, prompts: Sequence[str], completions: Sequence[str]) -> list[list[int]]:
    """What a reward model reads: prompt, completion and end of turn, tokenized apart.

    Prompts are rendered by `Chat.render`; training and scoring both come here.
    """
    before, after = chat.prompts_ids(prompts), chat.completions_ids(completions)
    return [[*p, *c, chat.row_end] for p, c in zip(before, after, strict=True)]


class RewardScorer:
    """A reward model folder, loaded once."""

    def __init__(self, model_dir: Path, *, device: str = "cpu", threads: int | None = None) -> None:
        """Load the model in float32 on the CPU, in its stored dtype elsewhere.

        `threads` sets this process's CPU threads.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        register()
        self.chat = load_chat(model_dir)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            model_dir, dtype=torch.float32 if device == "cpu" else "auto"
        )
        self.model.eval().to(device)
        self.device = device

    def score(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """One score per completion, higher is better; prompts are rendered already."""
        rows = scored_ids(self.chat, prompts, completions)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        scores = [0.0] * len(rows)
        for start in range(0, len(order), BATCH_ROWS):
            batch = order[start : start + BATCH_ROWS]
            for index, score in zip(batch, self._forward([rows[i] for i in batch]), strict=True):
                scores[index] = score
        return scores

    @torch.inference_mode()
    def _forward(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """Scores of one padded batch. The model finds a row's end by its padding token."""
        width = max(len(row) for row in rows)
        pad = self.model.config.get_text_config().pad_token_id
        ids = torch.full((len(rows), width), pad, device=self.device)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = 1
        return self.model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()
