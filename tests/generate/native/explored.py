"""Exploration written out: one sequence, one position, one path and one layer at a time."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.records import Request
from pipeline.recurrent.blocks import Block, attend
from pipeline.recurrent.counter import path_noise
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.policy import HaltingPolicy

Held = list[tuple[Tensor, Tensor]]
"""Keys and values [1, K, 1, D] of a layer's positions."""


@dataclass(frozen=True)
class Path:
    """A state [1, 1, h], and what its own position showed: by plane, of each layer."""

    number: int
    state: Tensor
    shown: tuple[Held, ...] = ()


class Explorer:
    """A sequence that explores."""

    def __init__(
        self, model: RecurrentForCausalLM, request: Request, judge: HaltingPolicy | None
    ) -> None:
        self.model, self.request, self.judge = model.model, request, judge
        self.head, self.config = model.lm_head, model.config
        self.dense: dict[int, Held] = {}
        self.core: dict[tuple[int, int], Held] = {}  # by layer and plane
        self.wins = 0  # tokens whose path was not path 0

    @torch.no_grad()
    def greedy(self) -> tuple[list[int], list[float]]:
        """The likeliest tokens, and their log-probabilities."""
        depth = self.request.depth
        assert depth is not None
        *prompt, token = self.request.prompt_tokens
        for place, one in enumerate(prompt):
            self._token(one, place, depth.prefill_depth, explores=False)
        tokens: list[int] = []
        logprobs: list[float] = []
        for index in range(self.request.max_tokens):
            logits = self._token(token, len(prompt) + index, depth.planned(index), explores=True)
            token = int(logits.argmax())
            tokens.append(token)
            logprobs.append(float(logits.log_softmax(-1)[token]))
        return tokens, logprobs

    def _token(self, token: int, place: int, depth: int, *, explores: bool) -> Tensor:
        """Logits [V] after a position, whose keys and values are held from now on."""
        backbone = self.model
        position = torch.tensor([[place]])
        self.rope = backbone.rotary_emb(self.head.weight[:1], position)
        hidden = backbone.embed_tokens(torch.tensor([[token]])) * self.config.embedding_scale
        embedded, shown = self._through(list(backbone.prelude), hidden, self._dense_past(0))
        for layer, one in enumerate(shown):
            self.dense.setdefault(layer, []).append(one)
        state = backbone.first_state(embedded, position)
        path = self._explored(state, embedded, place, depth, explores=explores)
        self._show(path, embedded, depth)
        logits, shown = self._readout(path.state)
        for layer, one in enumerate(shown):
            self.dense.setdefault(len(backbone.prelude) + layer, []).append(one)
        return logits

    def _explored(
        self, state: Tensor, embedded: Tensor, place: int, depth: int, *, explores: bool
    ) -> Path:
        rule = self.request.explore
        assert rule is not None
        paths = [self._iterated(Path(0, state), embedded, 1)]
        for iteration in range(2, depth + 1):
            if iteration == 2 and explores:
                paths += [replace(paths[0], number=n) for n in range(1, rule.paths)]
            before = [self._noised(path, place, iteration) for path in paths]
            paths = [self._iterated(path, embedded, iteration) for path in before]
            if len(paths) == 1:
                continue
            others = rule.alive(iteration + 1) - 1 if iteration < depth else 0
            scores = {
                path.number: self._score(path.state, old.state, iteration)
                for path, old in zip(paths, before, strict=True)
            }
            order = sorted(paths[1:], key=lambda path: -scores[path.number])
            if iteration < depth:
                going = {path.number for path in order[:others]}
                paths = [path for path in paths if path.number in {0} | going]
            elif scores[order[0].number] > scores[0] + 1e-4:
                self.wins += 1
                return order[0]
        return paths[0]

    def _noised(self, path: Path, place: int, iteration: int) -> Path:
        rule, state = self.request.explore, path.state
        assert rule is not None
        if path.number == 0:
            return path
        keys = (self.request.seed, place, iteration, path.number)
        noise = path_noise(*(torch.tensor([key]) for key in keys), width=state.shape[-1])
        return replace(path, state=state + rule.noise * state.pow(2).mean().sqrt() * noise)

    def _iterated(self, path: Path, embedded: Tensor, iteration: int) -> Path:
        shown: Held = []

        def through(hidden: Tensor) -> Tensor:
            blocks = list(self.model.core)[self.config.blocks_of(iteration)]
            past = [self.core.get((layer, iteration - 1), []) for layer in range(len(blocks))]
            hidden, own = self._through(blocks, hidden, past)
            shown.extend(own)
            return hidden

        state = self.model.iterate(path.state, embedded, iteration, through)
        return replace(path, state=state, shown=(*path.shown, shown))

    def _score(self, state: Tensor, previous: Tensor, iteration: int) -> float:
        if self.judge is None:
            logprobs = self._readout(state)[0].log_softmax(-1)
            return float((logprobs.exp() * logprobs).sum())
        moment = torch.tensor([iteration])
        return -float(self.judge(state[:, 0], previous[:, 0], moment, torch.zeros(1)))

    def _show(self, path: Path, embedded: Tensor, depth: int) -> None:
        """What every plane shows of the position from now on: the winner's own."""
        inner = self.model.injection.read(path.state, embedded, first=False)
        for plane in range(self.config.max_iterations):
            for layer in range(self.config.core_layers):
                if plane < depth or self.config.tie_iterations:
                    one = path.shown[min(plane, depth - 1)][layer]
                else:
                    block = list(self.model.core)[self.config.blocks_of(plane + 1)][layer]
                    assert isinstance(block, Block)
                    one = block.keys_values(inner, self.rope)
                self.core.setdefault((layer, plane), []).append(one)

    def _readout(self, state: Tensor) -> tuple[Tensor, Held]:
        past = self._dense_past(len(self.model.prelude))
        hidden, shown = self._through(list(self.model.coda), self.model.leave(state), past)
        return self.head(self.model.norm(hidden))[0, 0], shown

    def _dense_past(self, first: int) -> list[Held]:
        layers = len(self.model.prelude) + len(self.model.coda)
        return [self.dense.get(layer, []) for layer in range(first, layers)]

    def _through(self, blocks: list, hidden: Tensor, past: list[Held]) -> tuple[Tensor, Held]:
        shown: Held = []
        for block, held in zip(blocks, past, strict=False):
            q, k, v = block.project(hidden, self.rope)
            keys = torch.cat([*(one for one, _ in held), k], dim=2)
            values = torch.cat([*(one for _, one in held), v], dim=2)
            hidden = block.finish(hidden, attend(q, keys, values, None))
            shown.append((k, v))
        return hidden, shown
