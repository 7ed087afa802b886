"""Sampling for vLLM on the CPU: every request draws from its own seed, all rows in one pass.

vLLM itself draws one exponential number for each word of the vocabulary and each request that has a
seed, which for 49,152 words takes a third of a step. Here a request needs one uniform number, a
function of its seed and the position: the native engine's, so that both engines draw alike.
"""

from typing import Any

import torch
from torch import Tensor
from vllm.v1.outputs import LogprobsTensors, SamplerOutput
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.sampler import Sampler

from pipeline.generate.inverse_cdf import sample, token_draws
from pipeline.generate.vllm_engine import SEED

GREEDY_BELOW = 1e-5  # a temperature; vLLM's own bound


class SeededSampler(Sampler):
    """Draws by the inverse CDF, and gives the sampled tokens' log-probabilities.

    Of what a request can ask, it serves temperature, top_p, and vLLM's processors of logits.
    """

    def __init__(self, runner: Any) -> None:
        super().__init__(logprobs_mode="processed_logprobs")
        self._runner = runner

    def forward(
        self,
        logits: Tensor,
        sampling_metadata: SamplingMetadata,
        predict_bonus_token: bool = False,
        logprobs_mode_override: Any = None,
    ) -> SamplerOutput:
        """One token for each of the batch's requests; logits [N, V]."""
        logits = self.apply_logits_processors(logits, sampling_metadata, predict_bonus_token)
        temperature, greedy = sampling_metadata.temperature, None
        if temperature is None:
            temperature = torch.zeros(len(logits))
        if not sampling_metadata.all_random:
            greedy = temperature < GREEDY_BELOW
            temperature = torch.where(greedy, 1.0, temperature)
        tokens, logprobs = sample(
            logits,
            temperature=temperature,
            top_p=sampling_metadata.top_p,
            greedy=greedy,
            draws=self._draws(),
        )
        return SamplerOutput(
            sampled_token_ids=tokens.to(torch.int32)[:, None],
            logprobs_tensors=LogprobsTensors(
                logprob_token_ids=tokens.to(torch.int32)[:, None],
                logprobs=logprobs[:, None],
                selected_token_ranks=torch.zeros(len(tokens), dtype=torch.int32),
            ),
        )

    def _draws(self) -> Tensor:
        """[N] float64, one uniform number for each request of the batch."""
        batch = self._runner.input_batch
        seeds = [
            self._runner.requests[name].sampling_params.extra_args[SEED] for name in batch.req_ids
        ]
        last = torch.as_tensor(batch.num_tokens_no_spec[: len(seeds)], dtype=torch.int64) - 1
        return token_draws(torch.tensor(seeds, dtype=torch.int64), last)


def install(worker: Any) -> None:
    """Have a CPU worker's runner draw so."""
    worker.model_runner.sampler = SeededSampler(worker.model_runner)
