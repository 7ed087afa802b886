"""The head learns, from labels and then from outcomes, in an environment without a language model.

A prompt is T tokens. Each needs a depth of 1 to R and is relevant or not; its state shows both.
Reward: the share of relevant tokens that ran deep enough. The loss of a token, relevant or not,
falls once its need is met: labels cannot tell the two apart, the outcome can.
"""

import copy
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from pipeline.depth.labels.warm_start import Tokens, fit, nats_per_price
from pipeline.depth.model.decisions import Decisions, decisions_of
from pipeline.depth.model.features import Features
from pipeline.depth.rl.advantage import Member, decision_advantages
from pipeline.depth.rl.optimise import Batch, head_optimizer, improve
from pipeline.depth.trainer_jobs import RlUpdate
from pipeline.recurrent.policy import HaltingPolicy

T, R, WIDTH = 6, 4, 12
LOSS = 1.0  # nats that a token loses while its need is unmet
LOW, HIGH = math.log(0.25), math.log(4.0)
PRICES = (0.25, 0.5, 1.0, 2.0)
PROMPTS, GROUP, STEPS = 16, 8, 100


@dataclass(frozen=True, kw_only=True)
class Toy:
    """Completions of prompts, [B, T]."""

    need: Tensor  # [B, T] 1 to R
    relevant: Tensor  # [B, T] bool
    noise: Tensor  # [B, T, R + 1, WIDTH]
    hopeless: Tensor  # [B] bool, never rewarded


def draw(count: int, *, generator: torch.Generator, hopeless: float = 0.0) -> Toy:
    need = torch.randint(1, R + 1, (count, T), generator=generator)
    relevant = torch.rand(count, T, generator=generator) < 0.5
    relevant[:, 0] = True
    noise = 0.2 * torch.randn(count, T, R + 1, WIDTH, generator=generator)
    lost = torch.rand(count, generator=generator) < hopeless
    return Toy(need=need, relevant=relevant, noise=noise, hopeless=lost)


def repeated(toy: Toy, times: int) -> Toy:
    """Each prompt `times` times in a row."""
    return Toy(
        need=toy.need.repeat_interleave(times, 0),
        relevant=toy.relevant.repeat_interleave(times, 0),
        noise=toy.noise.repeat_interleave(times, 0),
        hopeless=toy.hopeless.repeat_interleave(times, 0),
    )


def states(toy: Toy) -> Tensor:
    """[B, T, R + 1, WIDTH]: what every token's state would be after 0 to R iterations."""
    shown = torch.zeros_like(toy.noise)
    shown.scatter_(3, toy.need[:, :, None, None].expand(-1, -1, R + 1, 1), 1.0)
    shown[..., R + 1] = torch.where(toy.relevant, 1.0, -1.0)[:, :, None]
    shown[..., R + 2] = torch.arange(R + 1.0) / R
    shown[..., R + 3] = torch.where(toy.hopeless, 1.0, -1.0)[:, None, None]
    return shown + toy.noise


def every_decision(toy: Toy, log_price: Tensor) -> Features:
    """Decisions [B * T * (R - 1)] after iterations 1 to R - 1, as if all went on; price by row."""
    held = states(toy)
    rows, length = toy.need.shape
    grid = torch.meshgrid(
        torch.arange(rows), torch.arange(length), torch.arange(1, R), indexing="ij"
    )
    row, token, iteration = (g.reshape(-1) for g in grid)
    return Features(
        state=held[row, token, iteration],
        previous=held[row, token, iteration - 1],
        iteration=iteration,
        log_price=log_price[row],
        goes_on=torch.ones(len(row), dtype=torch.bool),
        token=token,
        rollout=row,
    )


def made_decisions(toy: Toy, made: list[Decisions], log_price: Tensor) -> Features:
    """What the head read at decisions of rows that ran; price by row."""
    held = states(toy)
    row = torch.arange(len(made)).repeat_interleave(torch.tensor([len(m.token) for m in made]))
    token, iteration = (torch.cat([getattr(m, k) for m in made]) for k in ("token", "iteration"))
    return Features(
        state=held[row, token, iteration],
        previous=held[row, token, iteration - 1],
        iteration=iteration,
        log_price=log_price[row],
        goes_on=torch.cat([m.goes_on for m in made]),
        token=token,
        rollout=row,
    )


@torch.no_grad()
def chances_to_go_on(head: HaltingPolicy, toy: Toy, log_price: Tensor) -> Tensor:
    """[B, T, R - 1]."""
    logit = every_decision(toy, log_price).logits(head)
    return torch.sigmoid(logit).view(*toy.need.shape, R - 1)


def depth_chances(go: Tensor) -> Tensor:
    """P(depth = 1..R) [..., R] from chances to go on [..., R - 1]."""
    reach = torch.cat((torch.ones_like(go[..., :1]), go.cumprod(-1)), dim=-1)
    stop = torch.cat((1 - go, torch.ones_like(go[..., :1])), dim=-1)
    return reach * stop


def drawn_depths(go: Tensor, *, generator: torch.Generator) -> Tensor:
    """[B, T] depths of a sampled policy."""
    chances = depth_chances(go)
    flat = torch.multinomial(chances.view(-1, R), 1, generator=generator)
    return flat.view(chances.shape[:2]) + 1


def rewards(toy: Toy, depths: Tensor) -> Tensor:
    """[B] share of relevant tokens that ran as deep as they need."""
    met = (depths >= toy.need) & toy.relevant
    return met.sum(1) / toy.relevant.sum(1) * ~toy.hopeless


def value(head: HaltingPolicy, toy: Toy, *, told: float, price: float) -> float:
    """Exact mean of reward - price * cost of the sampled policy told ln(lambda) `told`."""
    log_price = torch.full((len(toy.need),), told)
    chances = depth_chances(chances_to_go_on(head, toy, log_price))
    depth = torch.arange(1, R + 1)
    met = (chances * (depth >= toy.need[..., None])).sum(-1) * toy.relevant
    reward = (met.sum(1) / toy.relevant.sum(1) * ~toy.hopeless).mean()
    cost = (chances * depth).sum(-1).mean() / R
    return float(reward - price * cost)


def best_fixed(toy: Toy, *, price: float) -> float:
    """The best mean of reward - price * cost at one depth for all toy."""
    return max(
        float(rewards(toy, torch.full_like(toy.need, d)).mean()) - price * d / R
        for d in range(1, R + 1)
    )


def oracle(toy: Toy, *, price: float) -> float:
    """The best that depends on need and relevance: deep enough where that pays, else 1."""
    share = toy.relevant / toy.relevant.sum(1, keepdim=True)
    gain = torch.where(toy.need == 1, 0.0, share) - price * (toy.need - 1) / (R * T)
    base = (share * (toy.need == 1)).sum(1).mean() - price / R
    return float(base + gain.clamp_min(0).sum(1).mean())


def losses(toy: Toy) -> Tensor:
    """[R, B, T] teacher-forced loss by depth: met or unmet, relevant or not."""
    depth = torch.arange(1, R + 1).view(R, 1, 1)
    return LOSS * (depth < toy.need).float()


def label_tokens(toy: Toy) -> Tokens:
    features = every_decision(toy, torch.zeros(len(toy.need)))
    count = toy.need.numel()
    return Tokens(
        features=features,
        losses=losses(toy).view(R, count),
        answers_for=torch.ones(count, dtype=torch.long),
        held_out=torch.zeros(count, dtype=torch.bool),
    )


def new_head() -> HaltingPolicy:
    torch.manual_seed(0)
    return HaltingPolicy(WIDTH, width=16, max_iterations=R)


def learn_labels(head: HaltingPolicy, *, labels: str = "best") -> None:
    tokens = label_tokens(draw(400, generator=torch.Generator().manual_seed(3)))
    rate = nats_per_price(tokens, accuracy_gain=1.0)
    fit(
        head,
        tokens,
        log_prices=(LOW, HIGH),
        rate=rate,
        labels=labels,  # pyright: ignore[reportArgumentType]
        steps=200,
        lr=1e-2,
        seed=1,
    )


def learn_outcomes(head: HaltingPolicy, *, hopeless: float = 0.0, floor: float = 0.2) -> None:
    """Policy gradients on sampled depths."""
    generator = torch.Generator().manual_seed(4)
    reference, optimizer = copy.deepcopy(head), head_optimizer(head, lr=1e-2)
    for step in range(STEPS):
        toy = repeated(draw(PROMPTS, generator=generator, hopeless=hopeless), GROUP)
        drawn = torch.rand(PROMPTS, generator=generator).repeat_interleave(GROUP)
        log_price = LOW + (HIGH - LOW) * drawn
        depths = drawn_depths(chances_to_go_on(head, toy, log_price), generator=generator)
        members = [
            Member(group=str(i // GROUP), outcome=o, log_price=p, depths=d)
            for i, (o, p, d) in enumerate(
                zip(
                    rewards(toy, depths).tolist(),
                    log_price.tolist(),
                    depths.tolist(),
                    strict=True,
                )
            )
        ]
        made = [decisions_of(m.depths, cap=R) for m in members]
        features = made_decisions(toy, made, log_price)
        advantage = torch.cat(
            decision_advantages(members, made, max_depth=R, ref_tokens=T, solvability_floor=floor)
        )
        improve(
            head,
            optimizer,
            Batch(features=features, advantage=advantage),
            reference=reference,
            spec=update_spec(step),
            max_depth=R,
            seed=1,
        )


def update_spec(step: int) -> RlUpdate:
    return RlUpdate(
        step=step,
        log_prices={},
        ref_tokens=T,
        lr=1e-2,
        epochs=2,
        minibatches=2,
        clip=0.2,
        entropy=0.1 * (1 - step / STEPS),
    )


@pytest.fixture(scope="module")
def held_out() -> Toy:
    return draw(500, generator=torch.Generator().manual_seed(9))


@pytest.fixture(scope="module")
def warm() -> HaltingPolicy:
    head = new_head()
    learn_labels(head)
    return head


@pytest.fixture(scope="module")
def trained(warm: HaltingPolicy) -> HaltingPolicy:
    head = copy.deepcopy(warm)
    with torch.no_grad():
        head.out.bias.add_(1.0)
    learn_outcomes(head)
    return head


def best_told(head: HaltingPolicy, toy: Toy, *, price: float) -> float:
    """What the head is worth at a price, told whatever suits it best."""
    return max(
        value(head, toy, told=told, price=price) for told in torch.linspace(LOW, HIGH, 9).tolist()
    )


@pytest.mark.parametrize("price", PRICES)
def test_outcomes_beat_labels_and_every_fixed_depth_at_every_price(
    price: float, trained: HaltingPolicy, warm: HaltingPolicy, held_out: Toy
) -> None:
    """One head, told the price; the labels' head may be told whatever serves it best."""
    reached = value(trained, held_out, told=math.log(price), price=price)
    assert reached > best_told(warm, held_out, price=price) + 0.02
    assert reached > best_fixed(held_out, price=price) + 0.05
    assert reached < oracle(held_out, price=price)


def test_labels_beat_every_fixed_depth(warm: HaltingPolicy, held_out: Toy) -> None:
    for price in PRICES:
        reached = best_told(warm, held_out, price=price)
        assert reached > best_fixed(held_out, price=price) + 0.05


def test_outcomes_stop_early_where_depth_is_irrelevant(
    trained: HaltingPolicy, warm: HaltingPolicy, held_out: Toy
) -> None:
    def deep_share(head: HaltingPolicy) -> tuple[float, float]:
        """Chance to go on after the first iteration, of hard tokens that matter or do not."""
        go = chances_to_go_on(head, held_out, torch.zeros(len(held_out.need)))[..., 0]
        hard = held_out.need >= 3
        matter, rest = hard & held_out.relevant, hard & ~held_out.relevant
        return float(go[matter].mean()), float(go[rest].mean())

    assert deep_share(warm)[1] > 0.6
    assert deep_share(trained)[1] < 0.3
    assert deep_share(trained)[0] > 0.7


def test_labels_that_look_one_step_ahead_miss_a_gain_behind_a_flat_step(
    warm: HaltingPolicy, held_out: Toy
) -> None:
    """A need of 3 or 4 gains nothing at iteration 2."""
    near = new_head()
    learn_labels(near, labels="step")
    for price in (0.25, 0.5, 1.0):
        reached = best_told(near, held_out, price=price)
        assert best_told(warm, held_out, price=price) > reached + 0.05


@pytest.mark.slow
def test_without_a_floor_hopeless_prompts_keep_their_depth(warm: HaltingPolicy) -> None:
    toy = draw(500, generator=torch.Generator().manual_seed(9), hopeless=0.4)
    reached = {}
    for floor in (0.0, 0.2):
        head = copy.deepcopy(warm)
        with torch.no_grad():
            head.out.bias.add_(1.0)
        learn_outcomes(head, hopeless=0.4, floor=floor)
        reached[floor] = best_told(head, toy, price=1.0)
    assert reached[0.2] > reached[0.0] + 0.05
