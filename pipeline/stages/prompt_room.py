"""Whether prompts fit: counted with the base's own tokenizer before the first stage runs.

A model's positions hold a prompt and its completion. What a stage's `max_tokens` leaves of them is
the room of its prompts; what does not fit is refused, or left out where the entry says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import WrongInput
from pipeline.generate.chat import Chat, TurnsRefused, load_chat
from pipeline.measure.drops import Drop
from pipeline.plan.model_origin import positions
from pipeline.plan.row_mistakes import rows_by_roles
from pipeline.plan.stage_plan import Plan, PlanError
from pipeline.recipe.model_source import ModelSource
from pipeline.records import Message, Prompt

ALLOWANCE_TOKENS = 4096  # room for prompts in any engine, where the model has it
SLACK_TOKENS = 8  # what a tokenizer may add to a text at its borders


@dataclass(frozen=True, kw_only=True)
class PromptRoom:
    """What the prompts of a run need of an engine."""

    longest_tokens: int = 0  # of a prompt over ALLOWANCE_TOKENS
    left_out: Mapping[str, frozenset[str]] = field(default_factory=dict)  # ids by prompts entry
    drops: tuple[Drop, ...] = ()  # the same, counted

    @property
    def tokens(self) -> int:
        """Tokens that engines keep for a prompt."""
        return max(ALLOWANCE_TOKENS, self.longest_tokens)


def positions_of(model: Path) -> int:
    """Positions of a model folder: of prompt and completion together."""
    limit = positions(ModelSource(path=str(model)))
    if limit is None:
        raise WrongInput(f"{model}/config.json does not say how many positions the model has")
    return limit


def sampled_entries(plan: Plan) -> dict[str, tuple[str, int]]:
    """Entries whose prompts engines are given: the stage with the longest completions, and their
    tokens."""
    entries: dict[str, tuple[str, int]] = {}
    for stage in plan.stages:
        for item in stage.inputs:
            if stage.spec.uses_engines and item.is_sampled:
                longest = (stage.name, stage.spec.longest_completion)
                entries[item.name] = max(entries.get(item.name, longest), longest, key=_tokens)
    return entries


def prompt_room(
    plan: Plan,
    model: Path,
    prompts: Mapping[str, Sequence[Prompt]],
    *,
    log: Callable[[str], None],
) -> PromptRoom:
    """The room that these prompts entries need, by the folder of the run's base model.

    Raises PlanError where an entry has prompts that do not fit and does not say `too_long: drop`,
    or none that fits.
    """
    positions = positions_of(model)
    chat = load_chat(model)
    _check_trained(plan, chat, prompts)
    longest, left_out, drops = 0, {}, []
    for name, (stage, completion) in sampled_entries(plan).items():
        if name not in prompts:
            continue
        source, rows = plan.recipe.prompts[name], prompts[name]
        room = positions - completion
        try:
            over_tokens = min(room, ALLOWANCE_TOKENS)
            lengths = long_prompts(chat, rows, preface=source.preface, over=over_tokens)
        except TurnsRefused as error:
            raise PlanError(f"prompts.{name}: {error}") from error
        over = {id_ for id_, length in lengths.items() if length > room}
        if over:
            sentence = (
                f"prompts.{name}: {len(over)} of {len(rows)} prompts have more than {room} tokens, "
                f"which max_tokens={completion} of stage {stage} leaves of the model's {positions} "
                f"positions; the longest has {max(lengths.values())}"
            )
            if source.too_long == "refuse" or len(over) == len(rows):
                fix = f"shorten them, lower max_tokens, or write prompts.{name}.too_long: drop"
                raise PlanError(f"{sentence}; {fix}")
            log(f"{sentence}; left out")
            left_out[name] = frozenset(over)
            drops.append(
                Drop(
                    what="prompts",
                    reason=f"longer than {room} tokens",
                    dropped=len(over),
                    total=len(rows),
                    key=f"prompts.{name}.too_long",
                )
            )
        longest = max([longest, *(n for id_, n in lengths.items() if id_ not in over)])
    return PromptRoom(longest_tokens=longest, left_out=left_out, drops=tuple(drops))


def _check_trained(plan: Plan, chat: Chat, prompts: Mapping[str, Sequence[Prompt]]) -> None:
    """Refuse rows for training whose turns the base's chat template refuses, one of each kind.

    Raises PlanError.
    """
    stages = [stage for stage in plan.stages if not stage.spec.own_models]
    items = [item for stage in stages for item in stage.inputs if item.role in ("rows", "pairs")]
    for item in items:
        for rows in rows_by_roles(prompts.get(item.name, ()), item.column).values():
            *context, last = rows[0][1]
            try:
                chat.render(last["content"], plan.recipe.prompts[item.name].preface, context)
            except TurnsRefused as error:
                raise PlanError(f"prompts.{item.name}: {error}") from error


def long_prompts(
    chat: Chat, prompts: Sequence[Prompt], *, preface: Sequence[Message], over: int
) -> dict[str, int]:
    """Tokens by prompt id of the prompts with more than `over`.

    A token has a byte at least, so most prompts are told by their size alone.
    """
    around = len(chat.prompt_ids(chat.render("", preface))) + SLACK_TOKENS
    doubtful = [p for p in prompts if p.context or len(p.question.encode()) + around > over]
    lengths = {
        p.id: len(chat.prompt_ids(chat.render(p.question, preface, p.context))) for p in doubtful
    }
    return {id_: length for id_, length in lengths.items() if length > over}


def _tokens(entry: tuple[str, int]) -> int:
    return entry[1]
