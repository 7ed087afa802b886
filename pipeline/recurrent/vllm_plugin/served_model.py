"""The recurrent model in vLLM: rows leave the core as they end, and the rest go on without them.

Shapes: N rows of a batch, n of them in one phase, A of those still in the core; h hidden size,
V vocabulary. A row that leaves after iteration d writes the keys and values of iteration d to all
later planes, or where iterations have blocks of their own, those that they project from the state
it left with, so that later tokens find them there: what decodes equals the parallel pass
`model(tokens, depths=...)` with the recorded depths.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.forward_context import get_forward_context
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import ReplicatedLinear
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    VocabParallelEmbedding,
)
from vllm.model_executor.models.utils import AutoWeightsLoader, WeightsMapper

from ..config import RecurrentConfig
from ..counter import normal
from ..injection import Injection
from ..policy import HaltingPolicy
from .hooks import require
from .kernels import normed
from .paging import Batch, Paging, Planes, View, write
from .phase_exits import PhaseExits
from .row_depths import DepthLog, Rows
from .served_blocks import Block, caches

Head = Callable[[Tensor], Tensor | None]
"""Hidden states [N, h] to logits [N, V]; None on ranks that gather no logits."""


class RecurrentModel(nn.Module):
    """The backbone."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str) -> None:
        super().__init__()
        config: RecurrentConfig = vllm_config.model_config.hf_config  # pyright: ignore
        self.config = config
        width, eps = config.hidden_size, config.rms_norm_eps
        self.embed_tokens = VocabParallelEmbedding(config.vocab_size, width)
        self.prelude = _blocks(config, "prelude", config.prelude_layers, prefix)
        self.injection = Injection(config, linear=_adapter(f"{prefix}.injection.adapter"))
        self.core = _blocks(config, "core", config.core_blocks, prefix, config.num_experts)
        blocks = list(self.core)
        self.core_of = [
            blocks[config.blocks_of(iteration + 1)] for iteration in range(config.max_iterations)
        ]
        normed = config.iteration_norm or config.exit_norm
        self.core_norm = RMSNorm(width, eps=eps) if normed else nn.Identity()
        self.coda = _blocks(config, "coda", config.coda_layers, prefix)
        self.norm = RMSNorm(width, eps=eps) if config.final_norm else nn.Identity()
        self.exit_gate = nn.Linear(width, 1) if config.exit_gate else None
        self.halting = (
            HaltingPolicy(width, width=config.halting_width, max_iterations=config.max_iterations)
            if config.halting_width is not None
            else None
        )
        self._caches(config, vllm_config, prefix)

    def _caches(self, config: RecurrentConfig, settings: VllmConfig, prefix: str) -> None:
        dense = config.prelude_layers + config.coda_layers
        count = dense + config.core_layers * config.max_iterations
        layers = caches(config, settings, count=count, prefix=f"{prefix}.caches")
        self.caches = nn.ModuleList(layers)
        self.prelude_caches = layers[: config.prelude_layers]
        self.coda_caches = layers[config.prelude_layers : dense]
        core = layers[dense:]
        width = config.core_layers
        self.core_caches = [core[i : i + width] for i in range(0, len(core), width)]
        self.planes = Planes(self.core_caches)

    def forward(
        self, embedded: Tensor, positions: Tensor, batch: Batch | None, head: Head
    ) -> Tensor:
        """Hidden states [N, h] for the head, from scaled embeddings [N, h] at positions [N]."""
        context = get_forward_context()
        if batch is None or context.attn_metadata is None:
            return self._measured(embedded, positions)
        name = self.core_caches[0][0].layer_name
        full = View(context.attn_metadata[name], context.slot_mapping[name])  # pyright: ignore
        rows = batch.rows
        count = len(rows.cap)
        hidden, positions = embedded[:count], positions[:count]
        paging = Paging(
            rows.owner,
            rows.position,
            slots=full.slots,
            block_table=batch.block_table,
            builder=batch.builder,
        )
        for block, cache in zip(self.prelude, self.prelude_caches, strict=True):
            hidden, _, _ = block(hidden, positions, cache, full)
        out = torch.empty_like(embedded)
        for members in rows.phases():
            phase = Phase(self, rows, members, hidden, positions, paging, full, head)
            at = torch.from_numpy(members).to(hidden.device)
            out[at] = phase.run()
        return out

    def coda_of(self, state: Tensor, positions: Tensor, view: View | None) -> Tensor:
        """What the head reads of states [A, h] that leave the core."""
        hidden = normed(self.core_norm, state) if self.config.exit_norm else state
        for block, cache in zip(self.coda, self.coda_caches, strict=True):
            hidden, _, _ = block(hidden, positions, cache, view)
        return normed(self.norm, hidden)

    def iterate(
        self,
        state: Tensor,
        embedded: Tensor,
        positions: Tensor,
        iteration: int,
        view: View | None,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The next state [A, h], and keys and values [A, K * D] by core layer."""
        first = iteration == 1
        hidden = self.injection.read(state, embedded, first=first)
        keys, values = [], []
        layers = self.core_caches[iteration - 1]
        for block, cache in zip(self.core_of[iteration - 1], layers, strict=True):
            hidden, k, v = block(hidden, positions, cache, view)
            keys.append(k)
            values.append(v)
        state = self.injection.write(state, hidden, first=first)
        return normed(self.core_norm, state) if self.config.iteration_norm else state, keys, values

    def project_skipped(
        self, state: Tensor, embedded: Tensor, positions: Tensor, iteration: int, slots: Tensor
    ) -> None:
        """Write how states [A, h] that leave after `iteration` are seen by the iterations after it,
        which have blocks of their own."""
        after = zip(self.core_of[iteration:], self.core_caches[iteration:], strict=True)
        inner = self.injection.read(state, embedded, first=False)
        for blocks, layers in after:
            for block, cache in zip(blocks, layers, strict=True):
                assert isinstance(block, Block)
                keys, values = block.keys_values(inner, positions)
                write(cache, keys, values, slots)

    def first_state(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """s_0 [n, h]."""
        if self.config.state_init == "input":
            return embedded
        if self.config.state_init == "zero":
            return torch.zeros_like(embedded)
        seed = torch.full_like(positions, self.config.state_seed)
        noise = normal(seed, positions.long(), width=embedded.shape[-1])
        return noise.to(embedded.dtype) * self.config.state_init_std

    def _measured(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """A pass without caches, for vLLM to see how much memory it takes."""
        for block, cache in zip(self.prelude, self.prelude_caches, strict=True):
            hidden, _, _ = block(hidden, positions, cache, None)
        state = self.first_state(hidden, positions)
        for iteration in (1, min(2, len(self.core_caches))):
            state, _, _ = self.iterate(state, hidden, positions, iteration, None)
        return self.coda_of(state, positions, None)


class Phase:
    """Rows that go through core and coda together."""

    def __init__(
        self,
        model: RecurrentModel,
        rows: Rows,
        members: np.ndarray,
        embedded: Tensor,
        positions: Tensor,
        paging: Paging,
        full: View,
        head: Head,
    ) -> None:
        self.model, self.rows, self.members = model, rows, members
        self.paging, self.head = paging, head
        self.whole = len(members) == len(rows.cap)
        self.view = full if self.whole else paging.view(members)
        at = torch.from_numpy(members).to(embedded.device)
        self.embedded = embedded if self.whole else embedded[at]
        self.positions = positions if self.whole else positions[at]
        self.exits = PhaseExits(
            rows,
            members,
            halting=model.halting,
            gate=model.exit_gate,
            readout=self._readout,
            device=embedded.device,
        )

    def run(self) -> Tensor:
        """Hidden states [n, h] for the head."""
        return self.model.coda_of(self._core(), self.positions, self.view)

    def _core(self) -> Tensor:
        """States [n, h] as the rows left the core."""
        embedded, positions, view = self.embedded, self.positions, self.view
        state = self.model.first_state(embedded, positions)
        left = torch.empty_like(state)
        depth = np.zeros(len(state), dtype=np.int64)
        active = np.arange(len(state))
        for iteration in range(1, len(self.model.core_caches) + 1):
            previous = state
            state, keys, values = self.model.iterate(previous, embedded, positions, iteration, view)
            goes_on = self.exits.after(iteration, active, state=state, previous=previous)
            if goes_on.all():
                continue
            leaving = np.flatnonzero(~goes_on)
            depth[active[leaving]] = iteration
            at = torch.from_numpy(leaving).to(state.device)
            if self.model.config.tie_iterations:
                self._leave(iteration, at, keys, values, view.slots)
            else:
                where = positions[at], iteration, view.slots[at]
                self.model.project_skipped(state[at], embedded[at], *where)
            if len(leaving) == len(depth):
                left = state
                break
            left[torch.from_numpy(active[leaving]).to(state.device)] = state[at]
            active = active[goes_on]
            if not len(active):
                break
            keep = torch.from_numpy(np.flatnonzero(goes_on)).to(state.device)
            state, embedded, positions = state[keep], embedded[keep], positions[keep]
            view = self.paging.view(self.members[active])
        self.rows.record(self.members, depth, self.exits.logprob)
        return left

    def _leave(
        self, iteration: int, at: Tensor, keys: list[Tensor], values: list[Tensor], slots: Tensor
    ) -> None:
        if iteration == len(self.model.core_caches):
            return
        whole = len(at) == len(slots)
        heads = (len(keys), len(at), -1, self.model.core_caches[0][0].head_size)
        k = torch.stack(keys if whole else [x[at] for x in keys]).view(heads)
        v = torch.stack(values if whole else [x[at] for x in values]).view(heads)
        self.model.planes.fill(iteration, k, v, slots if whole else slots[at])

    def _readout(self, state: Tensor, rows: np.ndarray) -> Tensor:
        """Logits [N, V] if rows of this phase left now; their place in the coda's caches is
        written again when they do."""
        at = torch.from_numpy(rows).to(state.device)
        view = self.paging.view(self.members[rows])
        logits = self.head(self.model.coda_of(state, self.positions[at], view))
        assert logits is not None
        return logits


class RecurrentForCausalLM(nn.Module):
    """The model that vLLM builds for the architecture of our checkpoints.

    Raises ValueError for what vLLM cannot serve exactly, and RuntimeError where this vLLM lacks
    the hooks.
    """

    hf_to_vllm_mapper = WeightsMapper(
        orig_to_new_stacked={
            ".q_proj": (".qkv_proj", "q"),
            ".k_proj": (".qkv_proj", "k"),
            ".v_proj": (".qkv_proj", "v"),
            ".mlp.gate_proj": (".mlp.gate_up_proj", 0),
            ".mlp.up_proj": (".mlp.gate_up_proj", 1),
        }
    )

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config: RecurrentConfig = vllm_config.model_config.hf_config  # pyright: ignore
        _check(config, vllm_config)
        require(v2=vllm_config.use_v2_model_runner)
        self.config = config
        root = f"{prefix}." if prefix else ""
        self.model = RecurrentModel(vllm_config=vllm_config, prefix=f"{root}model")
        self.lm_head = ParallelLMHead(
            config.vocab_size, config.hidden_size, prefix=f"{root}lm_head"
        )
        if config.tie_word_embeddings:
            self.lm_head = self.lm_head.tie_weights(self.model.embed_tokens)
        self.logits_processor = LogitsProcessor(config.vocab_size)
        self.depths = DepthLog(
            num_iterations=config.num_iterations,
            max_iterations=config.max_iterations,
            config=config.to_dict(),
        )

    def embed_input_ids(self, input_ids: Tensor) -> Tensor:
        """Scaled embeddings [N, h]."""
        return self.model.embed_tokens(input_ids) * self.config.embedding_scale

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
        *,
        batch: Batch | None = None,
    ) -> Tensor:
        """Hidden states [N, h] of a batch."""
        if inputs_embeds is None:
            assert input_ids is not None
            inputs_embeds = self.embed_input_ids(input_ids)
        return self.model(inputs_embeds, positions, batch, self.compute_logits)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """[N, V] from [N, h]."""
        return self.logits_processor(self.lm_head, hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Take tensors under the checkpoint's names; returns the names that were filled."""
        return AutoWeightsLoader(self).load_weights(weights, mapper=self.hf_to_vllm_mapper)

    @staticmethod
    def get_model_state_cls() -> type:
        """What the V2 runner asks for; imported here because it needs Triton."""
        from .state import RecurrentModelState

        return RecurrentModelState


def _check(config: RecurrentConfig, settings: VllmConfig) -> None:
    if config.warm_start or config.kv_planes is not None:
        raise ValueError(
            "warm_start and kv_planes tie a token to its neighbours' depths, which a batch does "
            "not reproduce: use the native engine, or set them to false and null"
        )
    if config.hidden_act != "silu":
        raise ValueError(f"hidden_act={config.hidden_act!r}: vLLM's blocks here are SiLU only")
    if settings.parallel_config.pipeline_parallel_size > 1:
        raise ValueError("recurrent models run on one pipeline stage: pipeline_parallel_size=1")
    if not settings.model_config.enforce_eager:
        raise ValueError(
            "how long the core runs depends on the data, which no compiled graph can follow: "
            "set enforce_eager=True"
        )


def _adapter(prefix: str) -> Callable[[int, int], nn.Module]:
    def build(inputs: int, outputs: int) -> nn.Module:
        return ReplicatedLinear(inputs, outputs, bias=False, prefix=prefix, return_bias=False)

    return build


def _blocks(
    config: RecurrentConfig, name: str, count: int, prefix: str, experts: int | None = None
) -> nn.ModuleList:
    return nn.ModuleList(
        Block(config, prefix=f"{prefix}.{name}.{i}", experts=experts) for i in range(count)
    )
