"""An exit rule at work on the newest position of every sequence, as `model.generate` decodes.

Shapes: B sequences, h hidden size.
"""

import torch
from torch import Tensor, nn

from .exits import decide
from .observer import Observer, Readout, Terms
from .request import DepthRequest


class PositionExits:
    """Who goes on, and what was decided. All rows run until nobody goes on; B is small here."""

    def __init__(
        self,
        request: DepthRequest,
        *,
        cap: int,
        positions: Tensor,
        seed: Tensor | None,
        gate: nn.Module | None,
        policy: nn.Module | None,
        readout: Readout,
    ) -> None:
        """Of positions [B] and seeds [B]; without seeds, zeros."""
        rows, device = len(positions), positions.device
        self._request, self._policy, self._readout = request, policy, readout
        self._observer = Observer(rows, gate=gate)
        self._rows = torch.arange(rows, device=device)
        self._terms = Terms(
            threshold=torch.full((rows,), request.threshold or 0.0, device=device),
            log_price=torch.full((rows,), request.log_price, device=device),
            seed=torch.zeros_like(positions) if seed is None else seed.to(device),
            position=positions,
        )
        self.inside = torch.ones(rows, dtype=torch.bool, device=device)  # [B] not stopped yet
        self.depth = torch.full((rows,), cap, device=device)  # [B] where a rule stopped, or the cap
        self.logprob = torch.zeros(rows, device=device)  # [B] of the decisions so far

    def after(self, iteration: int, *, state: Tensor, previous: Tensor) -> None:
        """Let the rule decide after an iteration from `previous` to `state` [B, h]."""
        request = self._request
        observation = self._observer.look(
            request.rule,
            self._rows,
            iteration=torch.full_like(self._terms.position, iteration),
            state=state,
            previous=previous,
            terms=self._terms,
            sampled=request.sampled,
            readout=self._readout,
        )
        if iteration < request.min_depth:
            return
        goes_on, logprob = decide(request.rule, observation, self._policy)
        self.logprob += torch.where(self.inside, logprob, torch.zeros_like(logprob))
        self.depth = torch.where(self.inside & ~goes_on, iteration, self.depth)
        self.inside = self.inside & goes_on
