"""Which requests may run: refused when they never could, waiting until rows and memory are free."""

from collections import Counter, deque
from collections.abc import Sequence

import torch

from pipeline.generate.native.forward import RowModel
from pipeline.generate.native.kv_pool import KvPool
from pipeline.generate.native.prefill import PrefilledPrompt, prefill
from pipeline.generate.native.row_table import IDLE, Rows, depth_of, spare_entries
from pipeline.records import Request
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.request import HEAD_RULES, DepthRequest

Key = tuple[tuple[int, ...], int]
"""Prompt tokens but the last, and the depth that they run at."""


class Admission:
    """The queue of one call of `generate`, and the prompts that its rows share.

    A row is promised the entries that it takes if every token runs to its cap, so a running row
    never waits for memory; promises shrink as tokens leave early.
    """

    def __init__(self, requests: Sequence[Request], *, model: RowModel, rows: Rows) -> None:
        self.model, self.rows, self.pool = model, rows, model.pool
        self.num_iterations = model.backbone.config.num_iterations
        self.waiting = deque(requests)
        self.keys = Counter(self._key(request) for request in requests)  # of unfinished requests
        self.prompts: dict[Key, PrefilledPrompt] = {}

    def admit(self) -> None:
        """Begin as many waiting requests as there are rows and memory for, in their order."""
        entrants: list[tuple[int, PrefilledPrompt]] = []
        fresh: list[PrefilledPrompt] = []
        for row in self.rows.in_phase(IDLE).tolist():
            if not self.waiting or not self._room(self.waiting[0]):
                break
            request = self.waiting.popleft()
            prompt = self.prompts.get(self._key(request))
            if prompt is None:
                prompt = self._place(request)
                fresh.append(prompt)
            prompt.users += 1
            self.rows.begin(row, request, self._depth(request))
            self.pool.core.promised += self.rows.promised(row)
            self.pool.dense.promised += request.max_tokens
            entrants.append((row, prompt))
        prefill(self.model, fresh)
        for row, prompt in entrants:
            if prompt.tokens:
                core, dense = torch.from_numpy(prompt.core), torch.from_numpy(prompt.dense)
                device = self.model.device
                self.pool.show_prompt(row, core.to(device), dense.to(device))

    def end(self, row: int) -> None:
        """Free a row: its tokens' entries, its promises, and its prompt if nobody waits for it."""
        rows, pool, request = self.rows, self.pool, self.rows.requests[row]
        assert request is not None
        held = rows.entries_held(row)
        pool.core.promised -= rows.promised(row)
        pool.dense.promised -= request.max_tokens - len(held)
        pool.release(row, start=len(request.prompt_tokens) - 1, held=held)
        rows.clear(row)
        key = self._key(request)
        self.keys[key] -= 1
        self.prompts[key].users -= 1
        if not self.keys[key]:
            self._forget(key)

    def close(self) -> None:
        """Free everything, finished or not."""
        for row in (self.rows.phase != IDLE).nonzero()[0].tolist():
            self.end(row)
        for key in list(self.prompts):
            self._forget(key)

    def _room(self, request: Request) -> bool:
        """Whether the pool can promise the request all it may need; prompts that only waiting
        requests share make way."""
        key = self._key(request)
        if self._fits(request):
            return True
        for other in [k for k, prompt in self.prompts.items() if not prompt.users and k != key]:
            self._forget(other)
        return self._fits(request)

    def _fits(self, request: Request) -> bool:
        core, dense = needed(request, self._depth(request), pool=self.pool)
        prompt = self.prompts.get(self._key(request))
        if prompt is not None:
            core, dense = core - prompt.core.size, dense - prompt.dense.size
        return self.pool.core.fits(core) and self.pool.dense.fits(dense)

    def _place(self, request: Request) -> PrefilledPrompt:
        tokens, depth = key = self._key(request)
        entries = self.pool.entries_of(depth)
        prompt = PrefilledPrompt(
            tokens=tokens,
            depth=depth,
            core=self.pool.core.take(entries * len(tokens)).reshape(entries, len(tokens)),
            dense=self.pool.dense.take(len(tokens)),
        )
        self.prompts[key] = prompt
        return prompt

    def _forget(self, key: Key) -> None:
        prompt = self.prompts.pop(key)
        self.pool.core.give(prompt.core.reshape(-1))
        self.pool.dense.give(prompt.dense)

    def _depth(self, request: Request) -> DepthRequest:
        return depth_of(request, self.num_iterations)

    def _key(self, request: Request) -> Key:
        return request.prompt_tokens[:-1], self._depth(request).prefill_depth


def needed(request: Request, depth: DepthRequest, *, pool: KvPool) -> tuple[int, int]:
    """Core and dense entries of a request whose every token runs to its cap."""
    prompt = len(request.prompt_tokens) - 1
    core = prompt * pool.entries_of(depth.prefill_depth)
    caps = Counter(depth.plan(request.max_tokens))
    core += sum(tokens * pool.entries_of(cap) for cap, tokens in caps.items())
    core += spare_entries(request, depth)
    return core, prompt + request.max_tokens


def check(request: Request, *, config: RecurrentConfig, pool: KvPool) -> None:
    """Refuse what can never run. Raises ValueError naming the request, the limit and the fix."""
    depth = depth_of(request, config.num_iterations)
    name = f"request {request.prompt_id!r} (sample {request.sample})"
    length = len(request.prompt_tokens) + request.max_tokens
    if not request.prompt_tokens or request.max_tokens < 1:
        raise ValueError(f"{name}: give at least one prompt token and max_tokens of at least 1")
    if length > pool.positions:
        raise ValueError(
            f"{name}: {len(request.prompt_tokens)} prompt tokens and max_tokens="
            f"{request.max_tokens} are over max_model_tokens={pool.positions}"
        )
    if depth.deepest > config.max_iterations:
        raise ValueError(
            f"{name}: depth {depth.deepest} is over the model's "
            f"max_iterations={config.max_iterations}"
        )
    if depth.rule in HEAD_RULES and config.halting_width is None:
        raise ValueError(f"{name}: rule {depth.rule!r} needs a model with a halting policy")
    if depth.rule == "q_exit" and not config.exit_gate:
        raise ValueError(f"{name}: rule 'q_exit' needs a model with an exit gate")
    core, dense = needed(request, depth, pool=pool)
    if core > pool.core.entries or dense > pool.dense.entries:
        less = f"lower max_tokens{' or the depth' if config.tie_iterations else ''}"
        if request.explore is not None:
            less = f"lower explore.paths, or {less}"
        raise ValueError(
            f"{name}: needs {core} entries of the core's keys and values and {dense} of the other "
            f"layers', the pool has {pool.core.entries} and {pool.dense.entries}: raise "
            f"kv_cache_gib, or {less}"
        )
