"""A causal language model of prelude, iterated core and coda, for Hugging Face trainers.

Shapes: B sequences, T new tokens, S attended tokens, h hidden size, V vocabulary.

The rule of its attention: a token that left the core after d iterations is seen by iteration i of
later tokens as it was at iteration min(i, d); where iterations have layers of their own, by the
keys and values that iteration i's layers project from the state it left with. So the parallel pass
with recorded depths computes what token-by-token decoding computed.

Reading order: `RecurrentModel.forward` (what a call may ask for), `_by_parts` (which positions run
together), `_run` (one pass through prelude, loop and coda); then `looping.Loop` (the iterations),
`position_exits` (a rule that stops them), `token_batch` (positions, masks, cache), and `blocks`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

from .blocks import Block, KeyValue
from .cache import RecurrentCache, cache_for
from .config import RecurrentConfig
from .counter import normal
from .effort import default_effort, default_request, request_for
from .forward_output import RecurrentOutput, joined
from .injection import Injection
from .looping import Loop
from .observer import Readout
from .policy import HaltingPolicy
from .position_exits import PositionExits
from .request import DepthRequest
from .shared_prefix import SharedPrefix
from .token_batch import TokenBatch, prepare


@dataclasses.dataclass(frozen=True)
class _Options:
    """How depths are decided while running, and what is returned."""

    request: DepthRequest | None
    seed: Tensor | None  # [B]
    readout: Readout | None
    every_state: bool

    @property
    def undecided(self) -> "_Options":
        """The same without a rule: every position runs to its cap."""
        return dataclasses.replace(self, request=None)


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
            assert isinstance(module.adapter, nn.Linear)
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
        settings = {"use_reentrant": False} | (gradient_checkpointing_kwargs or {})
        if settings["use_reentrant"]:
            raise ValueError(
                "use_reentrant=True would lose gradients between iterations: "
                'set gradient_checkpointing_kwargs={"use_reentrant": False}, or no checkpointing'
            )
        super().gradient_checkpointing_enable(settings, *args, **options)


class RecurrentModel(RecurrentPreTrainedModel):
    """The backbone: tokens to the hidden states that the output head reads."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        width, eps = config.hidden_size, config.rms_norm_eps
        self.embed_tokens = nn.Embedding(config.vocab_size, width, config.pad_token_id)
        self.prelude = nn.ModuleList(Block(config) for _ in range(config.prelude_layers))
        self.injection = Injection(config)
        self.core = nn.ModuleList(
            Block(config, experts=config.num_experts) for _ in range(config.core_blocks)
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
        layout: SharedPrefix | None = None,
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
            layout: of rows that stand in one sequence, B being 1; with `position_ids`.

        Raises:
            ValueError: for contradicting or impossible depths, foreign caches or masks, and
                training with shared KV, which the parallel pass cannot reproduce.
        """
        self._check_call(num_iterations, depths, depth_request)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        embedded: Tensor = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache and not self.training if use_cache is None else use_cache
        use_cache = use_cache and layout is None
        stepwise = depth_request is not None or self.config.warm_start
        batch = prepare(
            embedded * self.config.embedding_scale,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=cache_for(self.config, past_key_values, fresh=use_cache or stepwise),
            layout=layout,
        )
        if stepwise and (batch.packed is not None or layout is not None):
            raise ValueError("packed sequences take neither a depth_request nor a warm start")
        depth = self.config.num_iterations if num_iterations is None else num_iterations
        caps = depth if depths is None else batch.caps(depths)
        self._check_deepest(caps if depth_request is None else depth_request.deepest)
        options = _Options(depth_request, depth_seed, readout, bool(output_hidden_states))
        out = self._by_parts(batch, caps, options)
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
        noise = normal(seed, position_ids, width=embedded.shape[-1])
        return noise.to(embedded.dtype) * self.config.state_init_std

    def _check_call(
        self, num_iterations: int | None, depths: Tensor | None, request: DepthRequest | None
    ) -> None:
        if sum(x is not None for x in (num_iterations, depths, request)) > 1:
            raise ValueError("give at most one of num_iterations, depths, depth_request")
        if num_iterations is not None and num_iterations < 1:
            raise ValueError(f"num_iterations={num_iterations} must be at least 1")
        if self.training and self.config.kv_planes is not None:
            raise ValueError(
                f"kv_planes={self.config.kv_planes} shares keys and values while decoding only: "
                "train with kv_planes null"
            )

    def _check_deepest(self, caps: Tensor | int) -> None:
        deepest = caps if isinstance(caps, int) else int(caps.max())
        if deepest > self.config.max_iterations:
            raise ValueError(
                f"{deepest} iterations are over max_iterations={self.config.max_iterations}: "
                "ask for fewer, or raise it in the model's configuration"
            )

    def _by_parts(
        self, batch: TokenBatch, caps: Tensor | int, options: _Options
    ) -> RecurrentOutput:
        """All positions at once where they can be; a rule decides on the last alone, and a warm
        start makes each token wait for the one before it (arXiv 2502.05171, 6.3)."""
        request, last = options.request, batch.new - 1
        if last < 1 or (request is None and not self.config.warm_start):
            return self._run(batch, caps, options)
        bounds = range(last) if self.config.warm_start else [0]
        outputs = []
        for start, end in zip(bounds, [*bounds[1:], last], strict=True):
            cap = caps if isinstance(caps, int) else caps[:, start:end]
            cap = cap if request is None else request.prefill_depth
            outputs.append(self._run(batch.part(start, end), cap, options.undecided))
        cap = caps if isinstance(caps, int) else caps[:, last:]
        outputs.append(self._run(batch.part(last, batch.new), cap, options))
        return joined(outputs)

    def _run(self, batch: TokenBatch, caps: Tensor | int, options: _Options) -> RecurrentOutput:
        rope = self.rotary_emb(batch.embedded, batch.position_ids)
        hidden = batch.embedded
        for layer, block in enumerate(self.prelude):
            hidden = batch.dense(block, layer, hidden, rope)
        exits = None
        if options.request is not None:
            caps, by_segment = batch.next_cap(options.request)
            exits = None if by_segment else self._exits(batch, rope, options, cap=caps)
        loop = Loop(
            self,
            batch,
            rope,
            embedded=hidden,
            caps=caps,
            exits=exits,
            every_state=options.every_state,
        )
        state = loop.run()
        logprobs = None if exits is None else exits.logprob[:, None]
        if options.request is not None and logprobs is None:
            logprobs = torch.zeros(loop.depths().shape, device=state.device)
        if batch.cache is not None and self.config.warm_start:
            batch.cache.last_state = batch.newest(state)
        if batch.cache is not None and options.request is not None:
            batch.cache.segment_depths = loop.depths()
        return RecurrentOutput(
            last_hidden_state=self._coda(batch, state, rope, write=True),
            past_key_values=batch.cache,
            hidden_states=tuple(loop.states) if options.every_state else None,
            depths=loop.depths(),
            depth_logprobs=logprobs,
        )

    def _exits(
        self, batch: TokenBatch, rope: KeyValue, options: _Options, *, cap: Tensor | int
    ) -> PositionExits:
        request = options.request
        assert request is not None

        def readout(state: Tensor) -> Tensor:
            if options.readout is None:
                raise ValueError(
                    f"rule {request.rule!r} needs the language model, not its backbone"
                )
            return options.readout(self._coda(batch, state[:, None], rope, write=False))[:, 0]

        return PositionExits(
            request,
            cap=int(cap),
            positions=batch.position_ids[:, 0],
            seed=options.seed,
            gate=self.exit_gate,
            policy=self.halting,
            readout=readout,
        )

    def _coda(self, batch: TokenBatch, state: Tensor, rope: KeyValue, *, write: bool) -> Tensor:
        hidden = self.leave(state)
        for layer, block in enumerate(self.coda, start=len(self.prelude)):
            hidden = batch.dense(block, layer, hidden, rope, write=write)
        return self.norm(hidden)


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
        layout: SharedPrefix | None = None,
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
            layout=layout,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        out.logits = self.lm_head(out.last_hidden_state[:, keep])
        if labels is not None:
            out.loss = self.loss_function(
                logits=out.logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        return out
