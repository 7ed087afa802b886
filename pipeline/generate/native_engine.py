"""The native engine: our reference, in which every token really runs at its own depth. A dense
model is served as the recurrent one that it equals.

Exact: log-probabilities are those of the parallel pass with the recorded depths. Torch's own
kernels only, on CPU and CUDA alike.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.generate.engine import WHOLE, EngineSettings, Part, check_dense, check_version
from pipeline.generate.native.admission import check
from pipeline.generate.native.forward import RowModel
from pipeline.generate.native.kv_pool import KvPool
from pipeline.generate.native.loading import DTYPES, load
from pipeline.generate.native.paths import judge_of
from pipeline.generate.native.session import Session
from pipeline.records import Request, Rollout
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.effort import default_request
from pipeline.recurrent.shape import shape_of


class NativeEngine:
    """An `Engine` for recurrent models, and for dense ones of three families, in this process."""

    def __init__(self, model: Path, settings: EngineSettings, *, version: int) -> None:
        """Raises ValueError for a model or settings that it does not serve."""
        self.version: int | None = version
        self._loaded = load(model, settings)
        self.model = self._loaded.model
        self.pool = KvPool(
            self.model.config,
            rows=settings.max_sequences,
            positions=settings.max_model_tokens,
            gib=settings.kv_cache_gib,
            dtype=DTYPES[settings.dtype],
            device=settings.device,
        )
        self._rows = RowModel(self.model, self.pool)
        self._judge = judge_of(model, device=settings.device)
        self._max_sequences = settings.max_sequences
        self._ends = _ends(model, self.model.config)
        self._plain = default_request(self.model.config.to_dict(), _generation(model))
        self._shape = shape_of(self.model.config.to_dict())
        self._running = False

    def generate(self, requests: Sequence[Request], *, version: int) -> Iterator[Rollout]:
        """Yield each request's rollout as it ends.

        Raises WeightVersionError; ValueError for a request that can never run; RuntimeError while
        an earlier call is neither exhausted nor closed.
        """
        check_version(self.version, asked=version)
        self._require_idle("generate")
        if self._loaded.dense:
            for request in requests:
                check_dense(request)
        requests = [r if r.depth else replace(r, depth=self._plain) for r in requests]
        for request in requests:
            check(request, config=self.model.config, pool=self.pool)
        session = Session(
            requests,
            model=self._rows,
            rows=self._max_sequences,
            ends=self._ends,
            version=version,
            shape=self._shape,
            judge=self._judge,
        )
        self._running = True
        try:
            while session.busy:
                ended = session.tick()
                yield from map(_of_dense, ended) if self._loaded.dense else ended
        finally:
            session.close()
            self._running = False

    def load_weights(
        self, weights: Iterable[tuple[str, Any]], *, version: int, part: Part = WHOLE
    ) -> None:
        """Copy weights into the model; those that are not named stay.

        Raises ValueError for a name or a shape that the model lacks, RuntimeError in the middle of
        a generation.
        """
        self._require_idle("load weights")
        self.version = None
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, tensor in weights:
                for place, value in self._loaded.places(name, tensor).items():
                    own = parameters.get(place)
                    if own is None or own.shape != value.shape:
                        shape = "no such tensor" if own is None else tuple(own.shape)
                        raise ValueError(
                            f"weights hold {name} of shape {tuple(tensor.shape)}; the model has "
                            f"{shape}"
                        )
                    own.copy_(value)
        self.version = version if part.last else None

    def _require_idle(self, action: str) -> None:
        if self._running:
            raise RuntimeError(
                f"cannot {action} while a generation runs: exhaust or close its iterator first"
            )


def _of_dense(rollout: Rollout) -> Rollout:
    """The rollout of a model that has no depths."""
    return replace(rollout, depths=None, prompt_depth=None, flops=0.0)


def _ends(model: Path, config: RecurrentConfig) -> np.ndarray:
    """Whether each token ends a sequence, [V], by the configuration and the generation's own."""
    ends = np.zeros(config.vocab_size, dtype=bool)
    named = [config.eos_token_id]
    named.append(_generation(model).get("eos_token_id"))
    for ids in named:
        ends[ids if isinstance(ids, list) else [] if ids is None else [ids]] = True
    return ends


def _generation(model: Path) -> dict[str, Any]:
    file = model / "generation_config.json"
    return json.loads(file.read_text()) if file.exists() else {}
