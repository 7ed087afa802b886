"""A causal language model of prelude, iterated core and coda, for Hugging Face trainers.

Shapes: B sequences, T new tokens, S attended tokens, h hidden size, V vocabulary.

The rule of its attention: a token that left the core after d iterations is seen by iteration i of
later tokens as it was at iteration min(i, d). So the parallel pass with recorded depths computes
what token-by-token decoding computed.
"""

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding
from transformers.utils import ModelOutput

from .blocks import Block, KeyValue
from .cache import RecurrentCache
from .config import RecurrentConfig
from .counter import DEPTH, normal, uniform
from .effort import default_effort, default_request, request_for
from .exits import Observation, decide
from .policy import HaltingPolicy
from .request import READOUT_RULES, DepthRequest

Readout = Callable[[Tensor], Tensor]
"""Hidden states [..., h] after the final norm to logits [..., V]."""


@dataclasses.dataclass
class RecurrentOutput(ModelOutput):
    """What the backbone and the language model return; absent fields are None."""

    loss: Tensor | None = None
    logits: Tensor | None = None  # [B, T, V]
    last_hidden_state: Tensor | None = None  # [B, T, h] after the final norm
    past_key_values: RecurrentCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None  # states [B, T, h] s_0, s_1, ... on request
    attentions: tuple[Tensor, ...] | None = None  # never given; transformers' heads look for it
    depths: Tensor | None = None  # [B, T] int64, iterations that each position ran
    depth_logprobs: Tensor | None = None  # [B, T] of the sampled policy's decisions


class Injection(nn.Module):
    """What the core reads, and what its output does to the state. See `RecurrentConfig`."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.kind = config.injection
        width = config.hidden_size
        if self.kind in ("linear", "gated"):
            self.adapter = nn.Linear(2 * width, width, bias=False)
        if self.kind == "gated":
            self.gate = nn.Parameter(torch.full((width,), 0.5))

    def read(self, state: Tensor, embedded: Tensor, *, first: bool) -> Tensor:
        """The core's input, from the state and the prelude's output."""
        if self.kind == "none":
            return state
        if self.kind == "add":
            return state + embedded
        if self.kind == "gated" and first:
            return embedded
        return self.adapter(torch.cat((state, embedded), dim=-1))

    def write(self, state: Tensor, out: Tensor, *, first: bool) -> Tensor:
        """The next state, from the state and the core's output."""
        if self.kind == "gated" and not first:
            return state + self.gate * (out - state)
        return out


class RecurrentPreTrainedModel(PreTrainedModel):
    """Loading, saving and weight initialisation."""

    config: RecurrentConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Injection) and module.kind == "gated":
            width = module.gate.shape[0]
            init.constant_(module.gate, 0.5)
            init.copy_(module.adapter.weight, torch.eye(width, 2 * width))

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # generation gets its cache from `forward`

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: dict[str, Any] | None = None,
        *args: Any,
        **options: Any,
    ) -> None:
        """Recompute blocks in the backward pass.

        Raises ValueError for reentrant checkpointing: it drops the gradients of the keys and
        values that blocks take from one iteration to the next.
        """
        asked = {"use_reentrant": False} | (gradient_checkpointing_kwargs or {})
        if asked["use_reentrant"]:
            raise ValueError(
                "use_reentrant=True would lose gradients between iterations: "
                'set gradient_checkpointing_kwargs={"use_reentrant": False}, or no checkpointing'
            )
        super().gradient_checkpointing_enable(asked, *args, **options)


class RecurrentModel(RecurrentPreTrainedModel):
    """The backbone: tokens to the hidden states that the output head reads."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        width, eps = config.hidden_size, config.rms_norm_eps
        self.embed_tokens = nn.Embedding(config.vocab_size, width, config.pad_token_id)
        self.prelude = nn.ModuleList(Block(config) for _ in range(config.prelude_layers))
        self.injection = Injection(config)
        self.core = nn.ModuleList(
            Block(config, experts=config.num_experts) for _ in range(config.core_layers)
        )
        normed = config.iteration_norm or config.exit_norm
        self.core_norm = LlamaRMSNorm(width, eps) if normed else nn.Identity()
        self.coda = nn.ModuleList(Block(config) for _ in range(config.coda_layers))
        self.norm = LlamaRMSNorm(width, eps) if config.final_norm else nn.Identity()
        self.rotary_emb = LlamaRotaryEmbedding(config)  # pyright: ignore[reportArgumentType]
        self.exit_gate = nn.Linear(width, 1) if config.exit_gate else None
        self.halting = (
            HaltingPolicy(width, width=config.halting_width, max_iterations=config.max_iterations)
            if config.halting_width is not None
            else None
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embed_tokens = value  # pyright: ignore[reportAttributeAccessIssue]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: RecurrentCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        num_iterations: int | None = None,
        depths: Tensor | None = None,
        depth_request: DepthRequest | None = None,
        depth_seed: Tensor | None = None,
        output_hidden_states: bool | None = None,
        readout: Readout | None = None,
        **_: Any,  # trainers pass num_items_in_batch and the like
    ) -> RecurrentOutput:
        """Hidden states of a batch, each position at its own depth.

        Args:
            input_ids: [B, T], or `inputs_embeds` [B, T, h] before scaling.
            attention_mask: [B, S] over past and new tokens, 0 at padding on either side.
            position_ids: [B, T]; default: counted over the mask. Without a mask, positions that
                do not count up by one begin another sequence of a packed row.
            num_iterations: one depth for all; at most one of this, `depths`, `depth_request`.
                With none, the configured depth.
            depths: [B] by sequence, or [B, T] by position, for example recorded ones.
            depth_request: prompt positions but the last at its prefill depth, the last of them
                and every later call's position by its rule. `generate` passes it on:
                `model.generate(ids, depth_request=model.request_for(effort="low"))`.
            depth_seed: [B] seeds of a sampled policy; default: zeros.
            output_hidden_states: return the states after every iteration.
            readout: the head, for rules that look at predictions.

        Raises:
            ValueError: for contradicting or impossible depths, foreign caches or masks, and
                training with shared KV, which the parallel pass cannot reproduce.
        """
        if sum(x is not None for x in (num_iterations, depths, depth_request)) > 1:
            raise ValueError("give at most one of num_iterations, depths, depth_request")
        if self.training and self.config.kv_planes is not None:
            raise ValueError(
                f"kv_planes={self.config.kv_planes} shares keys and values while decoding only: "
                "train with kv_planes null"
            )
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        embedded: Tensor = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache and not self.training if use_cache is None else use_cache
        stepwise = depth_request is not None or self.config.warm_start
        if past_key_values is None and (use_cache or stepwise):
            past_key_values = RecurrentCache(self.config)
        if past_key_values is not None and not isinstance(past_key_values, RecurrentCache):
            raise ValueError(
                f"past_key_values is a {type(past_key_values).__name__}; this model keeps keys "
                "and values by iteration: pass a RecurrentCache, or None for a fresh one"
            )
        batch = self._batch(embedded, attention_mask, position_ids, past_key_values)
        asked = _Asked(depth_request, depth_seed, readout, bool(output_hidden_states))
        if stepwise and batch.packed is not None:
            raise ValueError("packed sequences take neither a depth_request nor a warm start")
        caps = self._caps(num_iterations, depths, batch)
        self._check_deepest(caps if depth_request is None else depth_request.deepest)
        if self.config.warm_start and batch.new > 1:
            out = self._one_by_one(batch, caps, asked)
        elif depth_request is not None and batch.new > 1:
            prompt = self._run(
                batch.part(0, batch.new - 1), depth_request.prefill_depth, asked.plain
            )
            out = _joined([prompt, self._run(batch.part(batch.new - 1, batch.new), caps, asked)])
        else:
            out = self._run(batch, caps, asked)
        if not use_cache:
            out.past_key_values = None
        return out

    def iterate(
        self,
        state: Tensor,
        embedded: Tensor,
        iteration: int,
        through_core: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """One iteration: inject, run the core's blocks by `through_core`, update the state."""
        first = iteration == 1
        out = through_core(self.injection.read(state, embedded, first=first))
        state = self.injection.write(state, out, first=first)
        return self.core_norm(state) if self.config.iteration_norm else state

    def leave(self, state: Tensor) -> Tensor:
        """What the coda reads of a state that leaves the core."""
        return self.core_norm(state) if self.config.exit_norm else state

    def first_state(self, embedded: Tensor, position_ids: Tensor) -> Tensor:
        """s_0 [..., h] for a prelude output [..., h] at positions [...]."""
        if self.config.state_init == "input":
            return embedded
        if self.config.state_init == "zero":
            return torch.zeros_like(embedded)
        seed = torch.full_like(position_ids, self.config.state_seed)
        drawn = normal(seed, position_ids, width=embedded.shape[-1])
        return drawn.to(embedded.dtype) * self.config.state_init_std

    def _batch(
        self,
        embedded: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        cache: RecurrentCache | None,
    ) -> "_Batch":
        past = cache.get_seq_length() if cache is not None else 0
        rows, new, _ = embedded.shape
        if attention_mask is not None and attention_mask.shape != (rows, past + new):
            raise ValueError(
                f"attention_mask has the shape {tuple(attention_mask.shape)}; this model takes "
                f"[B, S], here [{rows}, {past + new}]"
            )
        packed = None
        if position_ids is not None and attention_mask is None and past == 0:
            packed = _packed(position_ids.expand(rows, new))
        if attention_mask is not None and bool(attention_mask.all()):
            attention_mask = None
        if position_ids is None and attention_mask is not None:
            position_ids = (attention_mask.long().cumsum(-1) - 1).clamp_min(0)[:, -new:]
        elif position_ids is None:
            position_ids = torch.arange(past, past + new, device=embedded.device)[None]
        position_ids = position_ids.expand(rows, new)
        embedded = embedded * self.config.embedding_scale
        return _Batch(embedded, attention_mask, position_ids, cache, packed=packed)

    def _caps(
        self, num_iterations: int | None, depths: Tensor | None, batch: "_Batch"
    ) -> Tensor | int:
        """The deepest iteration of every position: one number, or [B, T]."""
        if depths is None:
            depth = self.config.num_iterations if num_iterations is None else num_iterations
            if depth < 1:
                raise ValueError(f"num_iterations={depth} must be at least 1")
            return depth
        if depths.dim() == 1:
            depths = depths[:, None]
        try:
            depths = depths.to(batch.embedded.device).long().expand(batch.rows, batch.new)
        except RuntimeError as error:
            raise ValueError(
                f"depths of shape {tuple(depths.shape)} fit no batch of {batch.rows} sequences "
                f"of {batch.new} new tokens; give [B] or [B, T]"
            ) from error
        low, high = (int(x) for x in torch.aminmax(depths))
        if low < 1:
            raise ValueError(f"depths hold {low}; every position runs at least 1 iteration")
        return high if low == high else depths

    def _check_deepest(self, caps: Tensor | int) -> None:
        deepest = caps if isinstance(caps, int) else int(caps.max())
        if deepest > self.config.max_iterations:
            raise ValueError(
                f"{deepest} iterations are over max_iterations={self.config.max_iterations}: "
                "ask for fewer, or raise it in the model's configuration"
            )

    def _run(self, batch: "_Batch", caps: Tensor | int, asked: "_Asked") -> RecurrentOutput:
        rope = self.rotary_emb(batch.embedded, batch.position_ids)
        hidden = batch.embedded
        for layer, block in enumerate(self.prelude):
            hidden = batch.dense(block, layer, hidden, rope)
        decided = None
        if asked.request is not None:
            caps, decided = batch.planned(asked.request)
        loop = _Loop(
            self,
            batch,
            rope,
            embedded=hidden,
            caps=caps,
            asked=asked if decided is None else asked.plain,
        )
        state = loop.run()
        if batch.cache is not None and self.config.warm_start:
            batch.cache.last_state = batch.newest(state)
        if batch.cache is not None and asked.request is not None:
            batch.cache.segment_depths = loop.depths()
        if asked.request is not None and loop.logprobs is None:
            loop.logprobs = torch.zeros(loop.depths().shape, device=state.device)
        hidden = self._coda(batch, state, rope, write=True)
        return RecurrentOutput(
            last_hidden_state=hidden,
            past_key_values=batch.cache,
            hidden_states=tuple(loop.states) if asked.states else None,
            depths=loop.depths(),
            depth_logprobs=loop.logprobs,
        )

    def _coda(self, batch: "_Batch", state: Tensor, rope: KeyValue, *, write: bool) -> Tensor:
        hidden = self.leave(state)
        for layer, block in enumerate(self.coda, start=len(self.prelude)):
            hidden = batch.dense(block, layer, hidden, rope, write=write)
        return self.norm(hidden)

    def _one_by_one(self, batch: "_Batch", caps: Tensor | int, asked: "_Asked") -> RecurrentOutput:
        """A warm start makes each token wait for the one before it (arXiv 2502.05171, 6.3)."""
        outs = []
        for index in range(batch.new):
            cap = caps if isinstance(caps, int) else caps[:, index : index + 1]
            last = index == batch.new - 1
            if asked.request is not None and not last:
                cap = asked.request.prefill_depth
            part = batch.part(index, index + 1)
            outs.append(self._run(part, cap, asked if last else asked.plain))
        return _joined(outs)


@dataclasses.dataclass
class _Asked:
    """How depths are decided while running, and what is returned."""

    request: DepthRequest | None
    seed: Tensor | None
    readout: Readout | None
    states: bool

    @property
    def plain(self) -> "_Asked":
        return dataclasses.replace(self, request=None)


@dataclasses.dataclass
class _Batch:
    """New tokens with what they attend to."""

    embedded: Tensor  # [B, T, h]
    attention_mask: Tensor | None  # [B, S]
    position_ids: Tensor  # [B, T]
    cache: RecurrentCache | None
    offset: int | None = None  # tokens in the cache before these
    packed: Tensor | None = None  # [B, T] which of a row's packed sequences

    def __post_init__(self) -> None:
        if self.offset is None:
            self.offset = self.cache.get_seq_length() if self.cache is not None else 0
        self.rows, self.new, _ = self.embedded.shape
        self.mask = _mask(self.attention_mask, past=self.offset, new=self.new, like=self.embedded)
        if self.packed is not None:
            together = (self.packed[:, :, None] == self.packed[:, None])[:, None]
            self.mask = together & torch.ones_like(together).tril()

    def part(self, start: int, end: int) -> "_Batch":
        """Some of the new tokens, those before them being in the cache by then."""
        offset = (self.offset or 0) + start
        seen = None
        if self.attention_mask is not None:
            seen = self.attention_mask[:, : offset + end - start]
        return _Batch(
            self.embedded[:, start:end], seen, self.position_ids[:, start:end], self.cache, offset
        )

    def planned(self, request: DepthRequest) -> tuple[Tensor | int, Tensor | None]:
        """The cap on this single position's depth, and, inside a segment, its decided depth."""
        assert self.cache is not None  # a depth request brings one along
        index = self.cache.generated
        self.cache.generated += 1
        if request.rule == "policy" and index % request.segment:
            decided = self.cache.segment_depths
            assert decided is not None
            return decided, decided
        return request.planned(index), None

    def newest(self, state: Tensor) -> Tensor:
        """The newest token's state [B, 1, h]; where that is padding, the last token's before."""
        assert self.cache is not None
        newest, last = state[:, -1:], self.cache.last_state
        if self.attention_mask is None or last is None:
            return newest
        return torch.where(self.attention_mask[:, -1, None, None].bool(), newest, last)

    def warm(self, state: Tensor) -> Tensor:
        """A first state [B, 1, h], or the last token's where there is one."""
        if self.cache is None or self.cache.last_state is None:
            return state
        if self.attention_mask is None:
            return self.cache.last_state
        began = self.attention_mask[:, : self.offset].bool().any(-1)
        return torch.where(began[:, None, None], self.cache.last_state, state)

    def dense(
        self, block: nn.Module, layer: int, hidden: Tensor, rope: KeyValue, *, write: bool = True
    ) -> Tensor:
        """A prelude or coda block, through the cache where there is one."""
        past = None if self.cache is None else self.cache.dense(layer, length=self.offset or 0)
        hidden, keys, values = block(hidden, rope, self.mask, past)
        if self.cache is not None and write:
            self.cache.write_dense(layer, keys, values)
        return hidden


@dataclasses.dataclass
class _Inside:
    """The sequences that still iterate: b of the batch's B."""

    rows: Tensor | None  # [b] their indices in the batch; None: all
    embedded: Tensor  # [b, T, h]
    rope: KeyValue  # [b, T, D] each
    mask: Tensor | None  # [b or 1, 1, T, S]
    caps: Tensor | int  # [b, T]
    kept: list[dict[int, KeyValue]]  # each token's last keys and values, by layer and slot

    def only(self, stay: Tensor) -> "_Inside":
        """Those of the sequences whose indices `stay` [c] are given."""
        assert isinstance(self.caps, Tensor)
        shared = self.mask is None or self.mask.shape[0] == 1
        return _Inside(
            rows=stay if self.rows is None else self.rows[stay],
            embedded=self.embedded[stay],
            rope=(self.rope[0][stay], self.rope[1][stay]),
            mask=self.mask if shared or self.mask is None else self.mask[stay],
            caps=self.caps[stay],
            kept=[{slot: (k[stay], v[stay]) for slot, (k, v) in by.items()} for by in self.kept],
        )


class _Loop:
    """The iterations of one batch: who is still in the core, what they left behind."""

    def __init__(
        self,
        model: RecurrentModel,
        batch: _Batch,
        rope: KeyValue,
        *,
        embedded: Tensor,
        caps: Tensor | int,
        asked: _Asked,
    ) -> None:
        self.model, self.batch, self.rope, self.embedded = model, batch, rope, embedded
        self.caps, self.asked = caps, asked
        kept: list[dict[int, KeyValue]] = [{} for _ in model.core]
        self.inside = _Inside(None, embedded, rope, batch.mask, caps, kept)
        # per sequence, on the host, where sequences can leave early; a cache wants all of them
        self.lasts = (
            None if isinstance(caps, int) or batch.cache is not None else caps.amax(dim=1).cpu()
        )
        self.states: list[Tensor] = []
        self.logprobs: Tensor | None = None
        self.alive: Tensor | None = None  # [B, T] not stopped by a rule
        self.stopped: Tensor | None = None  # [B, T] the iteration at which a rule stopped
        if asked.request is not None:
            shape = (batch.rows, batch.new)
            self.alive = torch.ones(shape, dtype=torch.bool, device=embedded.device)
            self.logprobs = torch.zeros(shape, device=embedded.device)
            self.stopped = torch.full(shape, int(caps), device=embedded.device)
        self.deciding = _Deciding(self) if asked.request is not None else None

    def run(self) -> Tensor:
        """The state [B, T, h] of every position as it left the core."""
        state = self._start()
        self.states = [state]
        self.iteration = 0
        deepest = self.caps if isinstance(self.caps, int) else int(self.caps.max())
        for iteration in range(1, deepest + 1):
            self.iteration = iteration
            self._let_go()
            state = self._step(state)
            self.states.append(state)
            if self.deciding is not None and iteration < deepest:
                self.deciding.after(iteration)
                if self.alive is not None and not bool(self.alive.any()):
                    break
            if not self.asked.states:
                del self.states[:-3]  # a rule looks back at most two iterations
        self._fill_planes()
        return state

    def depths(self) -> Tensor:
        """Iterations that every position ran, int64 [B, T]."""
        if self.stopped is not None:
            return self.stopped
        shape = (self.batch.rows, self.batch.new)
        if isinstance(self.caps, int):
            return torch.full(shape, self.caps, device=self.embedded.device)
        return self.caps

    def _start(self) -> Tensor:
        state = self.model.first_state(self.embedded, self.batch.position_ids)
        return self.batch.warm(state) if self.model.config.warm_start else state

    def _let_go(self) -> None:
        """Leave out the sequences of which no token iterates further: they cost nothing more."""
        if self.lasts is None:
            return
        stay = self.lasts >= self.iteration
        if not bool(stay.all()):
            self.lasts = self.lasts[stay]
            self.inside = self.inside.only(stay.nonzero()[:, 0].to(self.embedded.device))

    def _step(self, state: Tensor) -> Tensor:
        """The states [B, T, h] after one more iteration."""
        rows = self.inside.rows
        before = state if rows is None else state[rows]
        active, live = self._active(), self._live()
        cut = live is not None and not bool(live.any())
        with torch.no_grad() if cut else nullcontext():
            through = lambda hidden: self._core(hidden, active, None if cut else live)  # noqa: E731
            after = self.model.iterate(before, self.inside.embedded, self.iteration, through)
            if live is not None and not cut:
                after = torch.where(live[..., None], after, after.detach())
            if active is not None:
                after = torch.where(active[..., None], after, before)
        return after if rows is None else state.index_copy(0, rows, after)

    def _core(self, hidden: Tensor, active: Tensor | None, live: Tensor | None) -> Tensor:
        cache, inside = self.batch.cache, self.inside
        length, slot = self.batch.offset or 0, self._slot(self.iteration)
        for layer, block in enumerate(self.model.core):
            past = None if cache is None else cache.core(layer, self.iteration, length=length)
            by = inside.kept[layer]
            kept = by.get(slot, by.get(self._slot(self.iteration - 1)))
            hidden, keys, values = block(hidden, inside.rope, inside.mask, past, active, kept, live)
            by[slot] = keys[:, :, length:], values[:, :, length:]
            if cache is not None:
                cache.write_core(layer, self.iteration, keys, values)
        return hidden

    def _slot(self, iteration: int) -> int:
        """Where new keys and values are kept: with shared KV, a token that left keeps those of
        every plane, not its last alone."""
        cache = self.batch.cache
        shared = cache is not None and self.model.config.kv_planes is not None
        return cache.plane(iteration) if cache is not None and shared else 0

    def _active(self) -> Tensor | None:
        """[b, T] positions that run this iteration; None: all."""
        if self.alive is not None:
            return self.alive if self.iteration > 1 else None
        if isinstance(self.inside.caps, int):
            return None
        active = self.inside.caps >= self.iteration
        return None if bool(active.all()) else active

    def _live(self) -> Tensor | None:
        """[b, T] positions whose gradient passes this iteration; None: all.

        Tokens that left count as live: what they left behind still carries their gradient.
        """
        last = self.model.config.backprop_iterations
        if last is None or not torch.is_grad_enabled():
            return None
        caps = torch.as_tensor(self.inside.caps, device=self.embedded.device)
        live = (caps - last < self.iteration).expand(self.inside.embedded.shape[:2])
        return None if bool(live.all()) else live

    def _fill_planes(self) -> None:
        """Deeper planes hold a token's last keys and values."""
        cache, length = self.batch.cache, self.batch.offset or 0
        if cache is None:
            return
        slot = self._slot(self.iteration)
        for iteration in range(self.iteration + 1, cache.planes + 1):
            for layer, by in enumerate(self.inside.kept):
                past, kept = cache.core(layer, iteration, length=length), by[slot]
                if past is not None:
                    keys, values = (torch.cat(pair, dim=2) for pair in zip(past, kept, strict=True))
                    cache.write_core(layer, iteration, keys, values)


class _Deciding:
    """A rule at work on a single new position of every sequence."""

    def __init__(self, loop: _Loop) -> None:
        self.loop = loop
        request = loop.asked.request
        assert request is not None
        self.request = request
        like = loop.embedded
        self.threshold = torch.full((loop.batch.rows,), request.threshold or 0.0).to(like.device)
        self.log_price = torch.full((loop.batch.rows,), request.log_price).to(like.device)
        self.survival: Tensor | None = None
        self.previous_logprobs: Tensor | None = None

    def after(self, iteration: int) -> None:
        """Let the rule decide after an iteration, and note who stops."""
        loop, request = self.loop, self.request
        seen = self._observe(iteration)
        if iteration < request.min_depth:
            return
        goes_on, logprob = decide(request.rule, seen, loop.model.halting)
        assert loop.alive is not None
        assert loop.logprobs is not None
        assert loop.stopped is not None
        alive = loop.alive[:, 0]
        loop.logprobs[:, 0] += torch.where(alive, logprob, torch.zeros_like(logprob))
        stops = alive & ~goes_on
        loop.stopped[:, 0] = torch.where(stops, iteration, loop.stopped[:, 0])
        loop.alive = (alive & goes_on)[:, None]

    def _observe(self, iteration: int) -> Observation:
        loop, request, model = self.loop, self.request, self.loop.model
        states = [state[:, 0] for state in loop.states]
        logprobs = None
        if request.rule in READOUT_RULES:
            if loop.asked.readout is None:
                raise ValueError(
                    f"rule {request.rule!r} needs the language model, not its backbone"
                )
            hidden = model._coda(loop.batch, loop.states[-1], loop.rope, write=False)
            logprobs = loop.asked.readout(hidden)[:, 0].float().log_softmax(-1)
        if model.exit_gate is not None:
            stay = torch.sigmoid(-model.exit_gate(states[-1]).float())[:, 0]
            self.survival = stay if self.survival is None else self.survival * stay
        drawn = None
        if request.sampled:
            seed = loop.asked.seed
            rows = loop.batch.position_ids[:, 0]
            seed = torch.zeros_like(rows) if seed is None else seed.to(rows.device)
            drawn = uniform(seed, rows, iteration, stream=DEPTH)
        previous, self.previous_logprobs = self.previous_logprobs, logprobs
        return Observation(
            iteration=torch.full_like(loop.batch.position_ids[:, 0], iteration),
            state=states[-1],
            previous=states[-2],
            before=states[-3] if len(states) > 2 else states[-2],
            threshold=self.threshold,
            log_price=self.log_price,
            logprobs=logprobs,
            previous_logprobs=previous,
            survival=self.survival,
            uniform=drawn,
        )


def _mask(attention_mask: Tensor | None, *, past: int, new: int, like: Tensor) -> Tensor | None:
    """Boolean [B or 1, 1, T, S]; None where plain causal attention, or one query, does."""
    if attention_mask is None and (past == 0 or new == 1):
        return None
    rows = torch.arange(past, past + new, device=like.device)[:, None]
    columns = torch.arange(past + new, device=like.device)[None]
    allowed = (columns <= rows)[None, None]
    if attention_mask is None:
        return allowed
    # a padded query attends to itself: attention over nothing is NaN
    return allowed & attention_mask.bool()[:, None, None] | (columns == rows)


def _packed(position_ids: Tensor) -> Tensor | None:
    """[B, T] which of its row's sequences each position belongs to; None: one sequence a row."""
    jumps = (position_ids.diff(dim=-1) != 1).long()
    if not bool(jumps.any()):
        return None
    return torch.cat((torch.zeros_like(position_ids[:, :1]), jumps.cumsum(-1)), dim=-1)


def _joined(outs: list[RecurrentOutput]) -> RecurrentOutput:
    """Outputs of consecutive positions as one; states of different numbers are not joined."""

    def cat(pieces: list[Tensor | None]) -> Tensor | None:
        held = [piece for piece in pieces if piece is not None]
        return torch.cat(held, dim=1) if len(held) == len(pieces) else None

    chances = [
        torch.zeros_like(o.depths, dtype=torch.float32)
        if o.depth_logprobs is None
        else o.depth_logprobs
        for o in outs
        if o.depths is not None
    ]
    return RecurrentOutput(
        last_hidden_state=cat([o.last_hidden_state for o in outs]),
        past_key_values=outs[-1].past_key_values,
        depths=cat([o.depths for o in outs]),
        depth_logprobs=cat(list(chances)),
    )


class RecurrentForCausalLM(RecurrentPreTrainedModel, GenerationMixin):
    """The backbone with its output head."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.model = RecurrentModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def request_for(
        self,
        *,
        effort: str | None = None,
        budget: float | None = None,
        price: float | None = None,
    ) -> DepthRequest:
        """The `depth_request` of an effort, a budget or a price, by the model's calibration.

        Raises ValueError as `effort.request_for` does.
        """
        return request_for(self.config.to_dict(), effort=effort, budget=budget, price=price)

    @torch.no_grad()
    def generate(self, *inputs: Any, **options: Any) -> Any:
        """transformers' own; where no depth is asked for, at the effort that `generation_config`
        names, if the model is calibrated."""
        if not options.keys() & {"num_iterations", "depths", "depth_request"}:
            config, generation = self.config.to_dict(), self.generation_config.to_dict()
            if default_effort(config, generation) is not None:
                options["depth_request"] = default_request(config, generation)
        return super().generate(*inputs, **options)  # pyright: ignore[reportAttributeAccessIssue]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: RecurrentCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_iterations: int | None = None,
        depths: Tensor | None = None,
        depth_request: DepthRequest | None = None,
        depth_seed: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> RecurrentOutput:
        """Logits [B, T, V], and the loss where `labels` [B, T] are given (-100 is ignored).

        The other arguments are `RecurrentModel.forward`'s; `logits_to_keep` limits the head to
        the last positions, or to those of an index tensor.
        """
        out = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            num_iterations=num_iterations,
            depths=depths,
            depth_request=depth_request,
            depth_seed=depth_seed,
            output_hidden_states=output_hidden_states,
            readout=self.lm_head,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        out.logits = self.lm_head(out.last_hidden_state[:, keep])
        if labels is not None:
            out.loss = self.loss_function(
                logits=out.logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        return out
