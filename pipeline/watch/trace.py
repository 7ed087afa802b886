"""What a recurrent model does with its iterations on one prompt, as plain data.

Shapes: those of `trace_run`: `_P` prompt tokens, `_T` generated tokens, N positions that ran, `_R`
iterations of the full depth. Position n's output predicts token n + 1; what the model generated as
its token t was drawn from position _P - 1 + t, and has that position's depth.

A position that left the core after d iterations is followed on to _R, alone: what it attends to
stays as it ran. Up to d that is what happened, beyond it what was skipped.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.errors import WrongInput
from pipeline.generate.chat import load_chat
from pipeline.generate.depth_choice import chosen_depth, full_depth
from pipeline.recipe.places import named_path
from pipeline.recurrent.config import MODEL_TYPE
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.policy import relative_change
from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.shape import rollout_flops, shape_of
from pipeline.watch.trace_run import TracedAnswer, answer_prompt, continue_alone, readout

Kind = Literal["fixed point", "orbit", "slider", "wanderer", "too short"]

TOP = 3
"""Predictions kept after every iteration."""

LABELLED = 5
"""Tokens whose trajectories are drawn where nobody chooses."""

SETTLED = 0.05
"""A last relative change under this is a fixed point; ours."""

STRAIGHT, ROUND = 0.7, 0.3
"""Distance / path length from which a path is a slider, and up to which it is an orbit; ours. Of
a half circle it is 0.64, of a full one 0."""

FEWEST_STEPS = 3


class TraceError(WrongInput):
    """The model or the prompt cannot be traced; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token of the sequence. `depth`: at which it was drawn, None in the prompt."""

    id: int
    text: str
    depth: int | None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A token that a position's output predicts, and how likely."""

    id: int
    text: str
    probability: float
    right: bool  # it is the token that follows


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """A position's states s_1 ... s_R in the plane of the two first principal components."""

    position: int
    points: tuple[tuple[float, float], ...]  # [_R]
    path: float  # length of the path in h dimensions, over the norm of s_R
    straightness: float | None  # distance / length of its later half; None: too short
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Everything the page shows."""

    model: str
    prompt: str
    decided_by: str  # who decided the depths, in words
    request: DepthRequest
    full_depth: int  # _R
    tokens: tuple[Token, ...]  # [_P + _T]
    prompt_tokens: int
    depths: tuple[int, ...]  # [N] iterations of every position that ran
    change: tuple[tuple[float, ...], ...]  # [N][_R] ||s_i - s_(i-1)|| / ||s_i||
    kl: tuple[tuple[float, ...], ...]  # [N][_R - 1] KL(p_i || p_(i-1)) in nats, i from 2
    predictions: tuple[tuple[tuple[Prediction, ...], ...], ...]  # [N][_R][TOP]
    plane: tuple[tuple[tuple[float, float], ...], ...]  # [N][_R] all states in the PCA plane
    explained: float  # share of the states' variance that lies in the plane
    trajectories: tuple[Trajectory, ...]
    flops: float  # forward FLOPs of the prompt and its completion, exit checks included
    full_flops: float  # of the same tokens, every one written at _R

    @property
    def written_depths(self) -> tuple[int, ...]:
        """[_T] depth of every generated token."""
        return self.depths[self.prompt_tokens - 1 :]

    @property
    def mean_depth(self) -> float:
        """Iterations per generated token."""
        return sum(self.written_depths) / len(self.written_depths)

    @property
    def completion(self) -> str:
        """What the model wrote."""
        return "".join(token.text for token in self.tokens[self.prompt_tokens :])

    def settled(self, position: int) -> int:
        """The iteration, up to the depth, from which the likeliest token was the one at it."""
        best = [step[0].id for step in self.predictions[position][: self.depths[position]]]
        return next(i for i in range(1, len(best) + 1) if len(set(best[i - 1 :])) == 1)

    def turned(self, position: int) -> bool:
        """Whether the likeliest token at the full depth is another than the one at the depth."""
        steps = self.predictions[position]
        return steps[self.depths[position] - 1][0].id != steps[-1][0].id


@torch.no_grad()
def trace_prompt(
    folder: Path,
    prompt: str,
    *,
    max_tokens: int,
    choice: Mapping[str, Any],
    follow: Sequence[int] | None,
) -> Trace:
    """Let a model answer greedily, then look at every state on the way, and on to the full depth.

    The full depth is that of the model's depth policy, else its own number of iterations, or what
    was asked where that is deeper.

    Args:
        folder: a model folder, or a stage's that holds one.
        choice: one of effort, budget and depth; empty: the effort that the model was calibrated to
            be used at, else its own number of iterations.
        follow: positions whose trajectories are labelled; None: those with the longest paths.

    Raises TraceError for a folder without a recurrent model and positions out of range, and
    DepthRefused.
    """
    folder = _model_folder(folder)
    config = _config(folder)
    request, words = chosen_depth(config, _config(folder, "generation_config.json"), choice)
    assert request is not None
    full = full_depth(config, request)
    model = RecurrentForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    chat = load_chat(folder)
    tokenizer = chat.tokenizer
    tokens = chat.prompt_ids(chat.render(prompt, ()))
    _check_room(tokens, max_tokens=max_tokens, room=config["max_position_embeddings"])
    answer = answer_prompt(model, tokens, max_tokens=max_tokens, request=request)
    states = continue_alone(model, answer, depth=full)
    kl, predictions = _readouts(model, answer, tokenizer, iterations=full)
    plane, explained = _plane(states[1:])
    positions = _labelled_positions(states[1:], follow)
    ids, depths = answer.ids[0].tolist(), answer.depths[len(tokens) - 1 :]
    token_depths = [None] * len(tokens) + list(depths)
    cost, flat = shape_of(config), DepthRequest(depth=full, prompt_depth=request.prompt_depth)
    return Trace(
        model=str(folder),
        prompt=prompt,
        decided_by=words,
        request=request,
        full_depth=full,
        tokens=tuple(
            Token(id=token, text=tokenizer.decode([token]), depth=at)
            for token, at in zip(ids, token_depths, strict=True)
        ),
        prompt_tokens=len(tokens),
        depths=answer.depths,
        change=_rows(_changes(states)),
        kl=kl,
        predictions=predictions,
        plane=tuple(tuple((x, y) for x, y in path) for path in plane.transpose(0, 1).tolist()),
        explained=explained,
        trajectories=tuple(_trajectory(states[1:, n], plane[:, n], position=n) for n in positions),
        flops=rollout_flops(cost, prompt_tokens=len(tokens), depths=depths, request=request),
        full_flops=rollout_flops(
            cost, prompt_tokens=len(tokens), depths=[full] * len(depths), request=flat
        ),
    )


def document(trace: Trace, page: Path) -> dict[str, Any]:
    """The trace as one JSON document."""
    return {
        "model": trace.model,
        "prompt": trace.prompt,
        "completion": trace.completion,
        "page": str(page),
        "asked": trace.decided_by,
        "request": asdict(trace.request),
        "full_depth": trace.full_depth,
        "mean_depth": trace.mean_depth,
        "prompt_tokens": trace.prompt_tokens,
        "tokens": [{"id": t.id, "text": t.text, "depth": t.depth} for t in trace.tokens],
        "depths": list(trace.depths),
        "convergence": {"relative_change": trace.change, "kl_nats": trace.kl},
        "predictions": [
            [
                [{"id": p.id, "text": p.text, "probability": p.probability} for p in step]
                for step in position
            ]
            for position in trace.predictions
        ],
        "trajectories": [
            {
                "position": t.position,
                "kind": t.kind,
                "path": t.path,
                "straightness": t.straightness,
                "points": t.points,
            }
            for t in trace.trajectories
        ],
        "flops": trace.flops,
        "full_depth_flops": trace.full_flops,
    }


def kind_of(path: Tensor) -> tuple[Kind, float | None]:
    """What a path of states [_R, h] does, and the straightness of its later half.

    Huginn's states show the three behaviours (arXiv 2502.05171, section 7); the rule is ours. A
    path is a fixed point where its last step is under SETTLED of the state's norm. Otherwise its
    later half (at least FEWEST_STEPS steps) decides: a slider gets somewhere (distance / length
    from STRAIGHT up), an orbit comes back (up to ROUND), the rest wander.
    """
    steps = path.diff(dim=0).norm(dim=-1)
    if len(steps) < FEWEST_STEPS:
        return "too short", None
    later = path[-1 - max(FEWEST_STEPS, len(steps) // 2) :]
    length = later.diff(dim=0).norm(dim=-1).sum().clamp_min(1e-12)
    straightness = float((later[-1] - later[0]).norm() / length)
    if float(steps[-1] / path[-1].norm().clamp_min(1e-12)) < SETTLED:
        return "fixed point", straightness
    if straightness >= STRAIGHT:
        return "slider", straightness
    return ("orbit" if straightness <= ROUND else "wanderer"), straightness


def _model_folder(folder: Path) -> Path:
    """The folder that holds config.json of a recurrent model."""
    there = named_path(str(folder))
    place = there / "model" if (there / "model").is_dir() else there
    if not (place / "config.json").is_file():
        raise TraceError(f"{folder}: no model folder, it has no config.json")
    kind = _config(place).get("model_type")
    if kind != MODEL_TYPE:
        raise TraceError(
            f"{folder}: a dense model ({kind}) has no iterations to trace; "
            "`stepwell convert` makes a recurrent one of it"
        )
    if _config(place).get("warm_start"):
        raise TraceError(
            f"{folder}: with warm_start each token's states hang on the one before; "
            "set it to false in config.json to trace"
        )
    return place


def _config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    return json.loads((folder / name).read_text()) if (folder / name).is_file() else {}


def _check_room(tokens: Sequence[int], *, max_tokens: int, room: int) -> None:
    if not tokens or len(tokens) + max_tokens > room:
        raise TraceError(
            f"{len(tokens)} prompt tokens and {max_tokens} new ones: "
            f"the prompt needs at least one, and the model has {room} positions"
        )


def _changes(states: Tensor) -> Tensor:
    """[N, _R] relative change of the states [_R + 1, N, h]."""
    pairs = zip(states[1:], states[:-1], strict=True)
    return torch.stack([relative_change(now, before) for now, before in pairs], dim=1)


def _readouts(
    model: RecurrentForCausalLM, answer: TracedAnswer, tokenizer: Any, *, iterations: int
) -> tuple[tuple[tuple[float, ...], ...], tuple[tuple[tuple[Prediction, ...], ...], ...]]:
    """KL of successive predictions, [N][_R - 1], and the TOP of each, [N][_R][TOP]."""
    divergences, best = [], []
    before: Tensor | None = None
    for iteration in range(1, iterations + 1):
        now = readout(model, answer, depth=iteration).log_softmax(-1)  # [N, V]
        if before is not None:
            divergences.append((now.exp() * (now - before)).sum(-1).clamp_min(0))
        best.append(now.topk(min(TOP, now.shape[-1])))
        before = now
    follows = answer.ids[0, 1:].tolist()
    names: dict[int, str] = {}

    def prediction(token: int, logprob: float, position: int) -> Prediction:
        text = names.setdefault(token, tokenizer.decode([token]))
        right = token == follows[position]
        return Prediction(id=token, text=text, probability=math.exp(logprob), right=right)

    predictions = tuple(
        tuple(
            tuple(
                prediction(token, logprob, position)
                for token, logprob in zip(
                    step.indices[position].tolist(), step.values[position].tolist(), strict=True
                )
            )
            for step in best
        )
        for position in range(len(follows))
    )
    kl = _rows(torch.stack(divergences, dim=1)) if divergences else tuple(() for _ in follows)
    return kl, predictions


def _plane(states: Tensor) -> tuple[Tensor, float]:
    """States [_R, N, h] in the plane of their two first principal components, [_R, N, 2], and the
    share of the variance that lies in it. Each component's largest loading is positive."""
    rows = states.flatten(0, 1)
    centred = rows - rows.mean(dim=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the factorisation starts from a random matrix
        _, _, axes = torch.pca_lowrank(centred, q=min(6, *rows.shape), center=False, niter=6)
    axes = axes[:, :2]
    loading = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    points = centred @ (axes * loading.sign())
    share = points.square().sum() / centred.square().sum().clamp_min(1e-30)
    if points.shape[1] < 2:  # a single state
        points = torch.cat((points, torch.zeros_like(points)), dim=1)
    return points.view(*states.shape[:2], 2), float(share)


def _labelled_positions(states: Tensor, follow: Sequence[int] | None) -> list[int]:
    """The positions to follow, from states [_R, N, h]."""
    count = states.shape[1]
    if follow is None:
        lengths = _path_lengths(states)
        return sorted(lengths.topk(min(LABELLED, count)).indices.tolist())
    wrong = [position for position in follow if not 0 <= position < count]
    if wrong:
        raise TraceError(
            f"--tokens {','.join(map(str, follow))}: {wrong[0]} is out of range, "
            f"positions 0 to {count - 1} ran"
        )
    return list(follow)


def _path_lengths(states: Tensor) -> Tensor:
    """Path length over the last state's norm, [N] from [_R, N, h]."""
    steps = states.diff(dim=0).norm(dim=-1).sum(dim=0)
    return steps / states[-1].norm(dim=-1).clamp_min(1e-12)


def _trajectory(path: Tensor, plane: Tensor, *, position: int) -> Trajectory:
    kind, straightness = kind_of(path)
    return Trajectory(
        position=position,
        points=tuple((x, y) for x, y in plane.tolist()),
        path=float(_path_lengths(path[:, None])[0]),
        straightness=straightness,
        kind=kind,
    )


def _rows(values: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, values.tolist()))
