"""How an optimizer step is split: it adds up, or the nearest that does is named."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan.batches import batch_of
from pipeline.plan.stage_plan import PlanError
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.sft_stage import SftStage
from tests.plan.plans import GRPO, SFT, recipe_with, refusal


def test_grpo_batches_add_up() -> None:
    stage = GrpoStage.model_validate({**GRPO, "updates_per_step": 4, "micro_batch_rows": 8})
    batch = batch_of(stage, ranks=2)
    assert batch is not None
    assert batch.rows_per_update == 32 * 16 // 4
    assert (batch.micro_rows, batch.accumulation) == (8, 8)


def test_a_small_batch_is_one_small_forward_pass() -> None:
    batch = batch_of(SftStage.model_validate({**SFT, "batch_rows": 4}), ranks=2)
    assert batch is not None
    assert (batch.micro_rows, batch.accumulation) == (2, 1)


def test_uneven_batches_name_the_nearest_that_work() -> None:
    stages = {"a": {**GRPO, "prompts_per_step": 6, "samples_per_prompt": 4}}
    recipe = recipe_with(stages, hardware={"ranks": 5})
    assert "hardware.ranks=5; nearest ranks that work: 4 or 6" in refusal(recipe)
    stages["a"]["micro_batch_rows"] = 9
    text = refusal(recipe_with(stages, hardware={"ranks": 2}))
    assert "micro_batch_rows=9 does not divide the 12 rows" in text
    assert "nearest that do: 6 or 12" in text


@given(
    prompts=st.integers(1, 12),
    samples=st.integers(2, 12),
    micro=st.integers(1, 12),
    ranks=st.integers(1, 4),
)
def test_a_batch_is_its_parts_or_refused(
    prompts: int, samples: int, micro: int, ranks: int
) -> None:
    stage = GrpoStage.model_validate(
        {
            **GRPO,
            "prompts_per_step": prompts,
            "samples_per_prompt": samples,
            "micro_batch_rows": micro,
        }
    )
    try:
        batch = batch_of(stage, ranks=ranks)
    except PlanError:
        rows = prompts * samples
        assert rows % ranks or (rows // ranks) % min(micro, rows // ranks)
        return
    assert batch is not None
    parts = batch.ranks * batch.micro_rows * batch.accumulation
    assert batch.rows_per_update == prompts * samples == parts
