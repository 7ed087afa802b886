"""The V2 runner's side of the plugin. Written to vLLM 0.31.0's source; no GPU has run it yet."""

from typing import Any

import numpy as np
from torch import Tensor
from vllm.v1.core.sched.output import NewRequestData
from vllm.v1.worker.gpu.input_batch import InputBatch
from vllm.v1.worker.gpu.model_states.default import DefaultModelState
from vllm.v1.worker.gpu.states import RequestState

from .paging import Batch
from .row_depths import plan_rows
from .served_model import RecurrentForCausalLM


class RecurrentModelState(DefaultModelState):
    """Knows the requests in flight, and tells the model whose rows it runs."""

    model: RecurrentForCausalLM
    _block_table: Tensor
    _builder: Any

    def add_request(self, req_index: int, new_req_data: NewRequestData) -> None:
        super().add_request(req_index, new_req_data)
        self._track(new_req_data)

    def remove_request(self, req_id: str) -> None:
        super().remove_request(req_id)
        self.model.depths.take([req_id])  # their reader has taken them by then

    def prepare_attn(
        self,
        input_batch: InputBatch,
        cudagraph_mode: Any,
        block_tables: tuple[Tensor, ...],
        slot_mappings: Tensor,
        attn_groups: Any,
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any]:
        self._block_table = block_tables[0]
        self._builder = attn_groups[0][0].get_metadata_builder(0)
        return super().prepare_attn(
            input_batch, cudagraph_mode, block_tables, slot_mappings, attn_groups, *args, **kwargs
        )

    def prepare_inputs(self, input_batch: InputBatch, req_states: RequestState) -> dict[str, Any]:
        log = self.model.depths
        count = input_batch.num_reqs
        rows = plan_rows(
            [log.find(name) for name in input_batch.req_ids[:count]],
            input_batch.query_start_loc_np[: count + 1].astype(np.int64),
            input_batch.num_computed_tokens_np[:count].astype(np.int64),
        )
        batch = Batch(rows=rows, block_table=self._block_table[:count], builder=self._builder)
        return super().prepare_inputs(input_batch, req_states) | {"batch": batch}

    def _track(self, new: NewRequestData) -> None:
        params = new.sampling_params
        assert params is not None
        assert new.prompt_token_ids is not None
        self.model.depths.track(
            new.req_id,
            params.extra_args,
            seed=(params.extra_args or {}).get("seed", params.seed),
            prompt_tokens=len(new.prompt_token_ids),
        )
