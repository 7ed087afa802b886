"""One forward pass of completions through a model: packed where the model can, else padded."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.shared_prefix import IMPLEMENTATION
from pipeline.train.packed_rows import Completion, PackedRows, pack
from pipeline.train.token_logprobs import token_logprobs

UNREAD = 1  # depth of positions whose output nobody reads: padding
PROBE = (
    Completion(prompt=(3, 4, 5), tokens=(6, 7), logprobs=(0.0, 0.0), advantage=0.0),
    Completion(prompt=(3, 4, 5), tokens=(8, 9, 3, 5), logprobs=(0.0,) * 4, advantage=0.0),
    Completion(prompt=(6,), tokens=(4,), logprobs=(0.0,), advantage=0.0),
)
PROBE_GAP = {torch.float32: 1e-3, torch.bfloat16: 0.1}  # of the largest logit


class PolicyPass:
    """Log-probabilities of completions' tokens under one model."""

    def __init__(self, model: PreTrainedModel, *, temperature: float) -> None:
        """Of a model that may be wrapped, or sharded, by the time that it is called.

        The first call finds out whether it gives packed rows what it gives padded ones. Models
        differ in what their attention needs beside keys and values (a cap of its logits, sinks,
        biases): those that do not say so would compute something else.
        """
        self._model, self._temperature = model, temperature
        self._recurrent = isinstance(model.config, RecurrentConfig)
        self.packed: bool | None = None  # not known yet

    def __call__(self, model: Any, rows: PackedRows) -> tuple[Tensor, Tensor]:
        """[N] log-probabilities of the rows' targets, and the entropies [N], in nats."""
        if self.packed is None:
            self.packed = self._takes_layout(model)
        logits = _packed(model, rows) if self.packed else _padded(model, rows)
        return token_logprobs(logits, rows.targets, temperature=self._temperature)

    @torch.no_grad()
    def _takes_layout(self, model: Any) -> bool:
        inner = self._model
        if inner.config.get_text_config().to_dict().get("attn_logit_softcapping"):
            inner.set_attn_implementation("eager")  # torch's own attention would leave out the cap
        usual = inner.config._attn_implementation or "sdpa"
        rows = pack(PROBE, device=inner.device)
        padded = _padded(model, rows)
        try:
            if not self._recurrent:
                inner.set_attn_implementation(IMPLEMENTATION)
            apart = (_packed(model, rows) - padded).abs().max()
        except (ValueError, TypeError, KeyError, NotImplementedError):
            apart = torch.tensor(torch.inf)
        if apart <= PROBE_GAP.get(padded.dtype, 0.1) * padded.abs().max().clamp(min=1.0):
            return True
        if not self._recurrent:
            inner.set_attn_implementation(usual)
        return False


def _packed(model: Any, rows: PackedRows) -> Tensor:
    """[N, V] logits of the predicting positions."""
    at = {} if rows.depths is None else {"depths": rows.depths}
    out = model(
        input_ids=rows.ids,
        position_ids=rows.positions,
        layout=rows.layout,
        logits_to_keep=rows.predicting,
        use_cache=False,
        **at,
    )
    return out.logits[0]


def _padded(model: Any, rows: PackedRows) -> Tensor:
    """The same from whole rows, padded at the right."""
    device = rows.ids.device
    whole = [(*c.prompt, *c.tokens[:-1]) for c in rows.completions]
    longest = max(len(ids) for ids in whole)
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in whole], device=device)
    mask = torch.tensor(
        [[1] * len(row) + [0] * (longest - len(row)) for row in whole], device=device
    )
    at = {}
    if rows.depths is not None:
        depths = [c.depths or () for c in rows.completions]
        padded = [[*ran, *[UNREAD] * (longest - len(ran))] for ran in depths]
        at = {"depths": torch.tensor(padded, device=device)}
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **at).logits
    reading = [
        row * longest + len(c.prompt) - 1 + index
        for row, c in enumerate(rows.completions)
        for index in range(len(c.tokens))
    ]
    return logits.flatten(0, 1)[torch.tensor(reading, device=device)]
