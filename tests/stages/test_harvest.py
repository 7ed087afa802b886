"""What rejection sampling keeps, and the funnel that explains it."""

from pipeline.generate.groups import Group
from pipeline.recipe.reject_stage import RejectStage
from pipeline.records import Rollout, Scored
from pipeline.stages.harvest import (
    LANGUAGE,
    empty_warning,
    funnel_drops,
    harvest,
    preference_pairs,
    unreadable,
)


def scored(
    text: str, *, prompt: str = "p", sample: int = 0, answer: float | None = 1.0, stop: str = "eos"
) -> Scored:
    return Scored(
        rollout=Rollout(
            prompt_id=prompt,
            sample=sample,
            seed=1,
            prompt_tokens=(1,),
            tokens=tuple(range(len(text))),
            logprobs=(0.0,) * len(text),
            stop=stop,  # type: ignore[arg-type]
            weight_version=0,
        ),
        text=text,
        reward=answer,
        components={"answer": answer, LANGUAGE: 0.2 if "мир" in text else 1.0},
        verdicts={"answer": "x"},
    )


def group(*samples: Scored) -> Group:
    return Group(prompt_id=samples[0].rollout.prompt_id, samples=samples)


def spec(**keywords: int) -> RejectStage:
    return RejectStage(kind="reject", policy="x", prompts="y", rewards=["answer"], **keywords)  # type: ignore[arg-type]


def test_the_funnel_counts_every_filter() -> None:
    samples = [
        scored("good"),
        scored("good "),  # the same up to white space
        scored("wrong", answer=0.0),
        scored("unscored", answer=None),
        scored("long", stop="length"),
        scored("мир"),
        scored("other"),  # over keep_per_prompt
    ]
    result = harvest([group(*samples)], spec())
    assert [s.text for s in result.kept] == ["good"]
    assert result.funnel == {
        "generated": 7, "finished": 6, "correct": 4, "readable": 3, "new": 2, "kept": 1,
    }  # fmt: skip


def test_every_filter_says_what_it_took_and_by_which_key() -> None:
    funnel = {
        "generated": 7, "finished": 6, "correct": 4, "readable": 3, "new": 2, "kept": 1,
    }  # fmt: skip
    drops = funnel_drops(funnel, name="harvest")
    assert [drop.dropped for drop in drops] == [1, 2, 1, 1, 1]
    assert {drop.total for drop in drops} == {7}
    assert [drop.key.removeprefix("stages.harvest.") for drop in drops] == [
        "max_tokens", "threshold", "language", "", "keep_per_prompt",
    ]  # fmt: skip
    assert all(not d.key or d.key.rpartition(".")[2] in RejectStage.model_fields for d in drops)


def test_keep_per_prompt_and_same_text_for_two_prompts() -> None:
    groups = [group(scored("a", prompt=p), scored("b", prompt=p)) for p in ("p", "q")]
    result = harvest(groups, spec(keep_per_prompt=2))
    assert [s.text for s in result.kept] == ["a", "b", "a", "b"]


def test_readability_names_its_reason() -> None:
    assert unreadable(scored("x" * 2001)) == "long paragraph"
    assert unreadable(scored("x" * 1999 + "\n\n" + "y" * 1999)) is None
    assert unreadable(scored("<think>```</think>1")) == "code block"
    assert unreadable(scored("<think></think>```")) is None
    assert unreadable(scored("мир")) == "mixed language"


def test_pairs_are_balanced_in_length() -> None:
    groups = [
        group(
            *[scored("r" * n, prompt=f"p{i}") for n in (5, 9)],
            *[scored("w" * n, prompt=f"p{i}", answer=0.0) for n in (7, 7)],
        )
        for i in range(20)
    ]
    pairs = preference_pairs(groups, ["answer"], 1.0)
    gaps = [len(c.text) - len(r.text) for c, r in pairs]
    assert len(pairs) == 20
    assert abs(sum(gaps)) <= 2
    assert all(c.reward == 1.0 and r.reward == 0.0 for c, r in pairs)


def test_unscored_samples_are_no_negatives() -> None:
    assert preference_pairs([group(scored("a"), scored("b", answer=None))], ["answer"], 1.0) == []


def test_an_empty_harvest_says_who_misses_it_and_what_to_do() -> None:
    funnel = {"generated": 448, "finished": 145, "correct": 0, "kept": 0}
    warning = empty_warning(funnel, name="harvest", readers=["refit", "preference"])
    assert warning is not None
    assert "none of 448 completions (303 cut off, 145 wrong)" in warning
    assert "refit, preference will have nothing of it" in warning
    assert "--from harvest" in warning
    assert empty_warning(funnel | {"correct": 1, "kept": 1}, name="harvest", readers=[]) is None
