"""A tiny recurrent model with a halting head, rollouts of the native engine, and a bench whose
engines and trainers write down what they are asked."""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.depth.trainer_jobs import HeadJob
from pipeline.generate.groups import Group
from pipeline.generate.native_engine import NativeEngine
from pipeline.generate.service import Sampling
from pipeline.measure.ledger import PhaseClock
from pipeline.recipe.depth_stage import DepthStage
from pipeline.records import Prompt, Request, Rollout, Scored, read_scored, write_scored
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import DepthRequest
from pipeline.stages.context import RunContext
from tests.generate.engine_settings import cpu_settings

VOCABULARY, DEPTH, PROMPT_DEPTH = 41, 4, 2
GROUP, PROMPTS = 4, 3
LOG_PRICES = {f"p{i}": price for i, price in enumerate((-1.0, 0.3, 1.2))}

MakeBench = Callable[..., Any]
MakeJob = Callable[..., HeadJob]
MakeScored = Callable[..., Path]


@pytest.fixture(scope="session")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose every part matters, with a file that is none of its weights. Its
    iterations are tied, or what an indirect parameter says."""
    tied = getattr(request, "param", True)
    out = tmp_path_factory.mktemp("recurrent")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = RecurrentConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=96,
            num_attention_heads=2,
            max_position_embeddings=64,
            num_iterations=DEPTH,
            max_iterations=DEPTH + 1,
            halting_width=8,
            tie_iterations=tied,
        )
        model = RecurrentForCausalLM(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(out)
    (out / "chat_template.jinja").write_text("{{ messages }}")
    return out


@pytest.fixture(scope="session")
def engine(folder: Path) -> NativeEngine:
    settings = cpu_settings(tokens=48, gib=0.1)
    return NativeEngine(folder, settings, version=0)


def depth_request(prompt: int, sample: int, *, fixed: bool, **changes: Any) -> DepthRequest:
    """By the policy; where `fixed` the last two samples at depths of their own, one the full."""
    if fixed and sample >= GROUP - 2:
        depth = DEPTH if sample == GROUP - 2 else 1 + prompt % (DEPTH - 1)
        return DepthRequest(rule="fixed", depth=depth, prompt_depth=PROMPT_DEPTH)
    options = {"depth": DEPTH, "prompt_depth": PROMPT_DEPTH, "sampled": True}
    price = LOG_PRICES[f"p{prompt}"]
    return DepthRequest(rule="policy", log_price=price, **(options | changes))


@pytest.fixture(scope="session")
def rollouts(engine: NativeEngine) -> list[Rollout]:
    return generated(engine)


def generated(engine: NativeEngine, *, fixed: bool = True, **changes: Any) -> list[Rollout]:
    requests = [
        Request(
            prompt_id=f"p{prompt}",
            prompt_tokens=tuple(range(3 + prompt, 5 + 3 * prompt)),
            sample=sample,
            seed=100 * prompt + sample,
            max_tokens=4 + 3 * sample,
            temperature=1.0,
            depth=depth_request(prompt, sample, fixed=fixed, **changes),
        )
        for prompt in range(PROMPTS)
        for sample in range(GROUP)
    ]
    found = engine.generate(requests, version=0)
    return sorted(found, key=lambda r: (r.prompt_id, r.sample))


@pytest.fixture(scope="session")
def drawn(engine: NativeEngine) -> list[Rollout]:
    """Rollouts of a step: all by the policy."""
    return generated(engine, fixed=False)


@pytest.fixture(scope="session")
def segmented(engine: NativeEngine) -> list[Rollout]:
    """Rollouts in which three tokens share a decision."""
    return generated(engine, segment=3)


@pytest.fixture
def make_job(folder: Path, tmp_path: Path) -> MakeJob:
    def build(**changes: Any) -> HeadJob:
        given: dict[str, Any] = {
            "model": folder,
            "out": tmp_path / "out",
            "seed": 5,
            "threads": 1,
            "device": "cpu",
            "max_depth": DEPTH,
            "prompt_depth": PROMPT_DEPTH,
            "segment": 1,
            "batch_rows": 5,
        }
        return HeadJob(**(given | changes))

    return build


@pytest.fixture
def make_scored(tmp_path: Path) -> MakeScored:
    """Rollouts with rewards as a parquet file: 0 and 1 in turn unless given."""

    def build(runs: list[Rollout], *, rewards: list[float | None] | None = None) -> Path:
        given = rewards or [float((r.sample + len(r.prompt_tokens)) % 2 == 0) for r in runs]
        scored = [
            Scored(rollout=run, text="", reward=reward, components={}, verdicts={})
            for run, reward in zip(runs, given, strict=True)
        ]
        write_scored(scored, tmp_path / "scored.parquet")
        return tmp_path / "scored.parquet"

    return build


@pytest.fixture
def log_prices() -> dict[str, float]:
    return dict(LOG_PRICES)


@pytest.fixture
def spec() -> DepthStage:
    return DepthStage.model_validate(
        {
            "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 4,
            "max_tokens": 9,
            "rl": {"steps": 4, "prompts_per_step": 3, "samples_per_prompt": 4},
            "joint": {"rounds": 2, "token_steps": 2, "head_steps": 1},
        }
    )  # fmt: skip


@pytest.fixture
def make_bench(spec: DepthStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeBench:
    """One on `tmp_path`, with twenty prompts; `stop_after`: updates until the user wants an end."""
    found = [Prompt(id=f"p{i}", question="?") for i in range(20)]
    monkeypatch.setattr("pipeline.depth.rl.course.prompts_of", lambda *_: found)
    (tmp_path / "work").mkdir(exist_ok=True)
    return lambda **options: Bench(spec, tmp_path, **options)


class Bench:
    """The double of `pipeline.depth.bench.Bench`."""

    def __init__(
        self, spec: DepthStage, folder: Path, *, stop_after: int = 99, value: float | None = 1.0
    ) -> None:
        self.spec = spec
        self.plan: Any = SimpleNamespace(name="depth", seed=3, spec=spec)
        self.clock = PhaseClock()
        self.calls: list[str] = []
        self.served: list[Path] = []
        self.asked: list[Any] = []
        self.loaded: list[Any] = []
        self.value = value
        self.sampled = 0
        self.updates: list[Any] = []
        self.shown: list[Any] = []
        plan: Any = SimpleNamespace(
            device="cpu",
            recipe=SimpleNamespace(
                name="r",
                hardware=SimpleNamespace(rank_threads=1, ranks=1, sharding="none"),
                model=SimpleNamespace(dtype="float32"),
                report_to=[],
                stages={},
            ),
        )
        cluster: Any = SimpleNamespace(call=self.call)
        console: Any = SimpleNamespace(
            log=lambda _: None, metrics=lambda _, row: self.shown.append(row)
        )
        self.ctx = RunContext(
            plan=plan,
            run_dir=folder,
            work=folder / "work",
            out=folder / "out",
            artifacts={},
            cluster=cluster,
            console=console,
            stopping=lambda: len(self.updates) >= stop_after,
        )

    def serving(self, model: Path) -> Any:
        self.served.append(model)
        return SimpleNamespace(sample=self.sample, load_weights=self.loaded.append)

    def forget(self) -> None:
        pass

    def sampling(self, samples: int) -> Sampling:
        return Sampling(samples=samples, temperature=1.0, top_p=1.0, max_tokens=9)

    def sample(self, prompts: list[Prompt], *, depths: Any, **_: Any) -> list[Group]:
        self.sampled += 1
        self.asked.append(depths)
        return [
            Group(
                prompt_id=p.id,
                samples=tuple(self.scored(p, i) for i, _ in enumerate(depths[p.id])),
            )
            for p in prompts
        ]

    def scored(self, prompt: Prompt, sample: int) -> Scored:
        rollout = Rollout(
            prompt_id=prompt.id,
            sample=sample,
            seed=0,
            prompt_tokens=(1,),
            tokens=(2,),
            logprobs=(0.0,),
            stop="eos",
            weight_version=0,
            depths=(2,),
        )
        return Scored(
            rollout=rollout,
            text="",
            reward=self.value,
            components={"a": self.value},
            verdicts={"a": "x"},
        )

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        inspect.signature(function).bind(*arguments, **keywords)
        name = function.__name__
        self.calls.append(name)
        if name in ("update_head", "update_tokens"):
            self.updates.append(keywords)
            assert len(read_scored(arguments[1])) == 12  # the journal is there before
            before = "" if keywords["state"] is None else keywords["state"].read_text()
            keywords["new_state"].write_text(before + str(keywords["spec"].step))
            return {"policy": 0.5, "depth_mean": 2.0, "alarms": []}
        if name == "packed":
            return arguments[0].read_text()
        return None
