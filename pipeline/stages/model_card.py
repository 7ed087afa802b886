"""The card of a model that is handed on: how to run it, what it scored, what made it and from what.

Its head is what the hub reads (licence, base model, language, data sets); its snippet is run as it
stands by `tests/stages/test_model_card.py`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.artifacts import Artifact
from pipeline.plan.vocabulary import is_pruned
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.schema import Recipe
from pipeline.recipe.stage_base import BASE
from pipeline.recurrent.shape import MODEL_TYPE
from pipeline.stages.context import RunContext
from pipeline.stages.vocabulary_use import pruning_text

FOLDER = "PATH_OR_ID"
"""What stands for the model's folder, or its id on the hub, in the snippet."""

SNIPPET = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{folder}"{trusted})
tokenizer = AutoTokenizer.from_pretrained("{folder}"{trusted})
prompt = tokenizer.{rendered}
answer = model.generate(**prompt, max_new_tokens=256, do_sample=False{depth})
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :]))
```
"""

TEMPLATED = """apply_chat_template(
    [{{"role": "user", "content": {question}}}],
    add_generation_prompt=True, return_tensors="pt", return_dict=True,
)"""


def model_card(
    ctx: RunContext, name: str, folder: Path, results: Sequence[Mapping[str, Any]]
) -> str:
    """The card of the exported model `name`, whose files are in `folder`."""
    recipe = ctx.plan.recipe
    config = json.loads((folder / "config.json").read_text())
    head = yaml.safe_dump(_head(recipe, config), sort_keys=False, allow_unicode=True)
    sections = [
        ("Use", _use(folder, config, _question(recipe))),
        ("Results", _results(name, results)),
        ("Depth", _depth(config)),
        ("How it was made", _stages(ctx)),
        ("Vocabulary", _vocabulary(ctx, name)),
        ("Data", _data(recipe)),
        ("Time and energy", _compute(ctx, results)),
        ("Lineage", _lineage(ctx, name)),
        ("Limits", _limits(recipe, results)),
    ]
    text = "\n".join(f"## {title}\n\n{body}" for title, body in sections if body)
    intro = f"Made by Stepwell from `recipe.yaml` (in this folder), seed {recipe.seed}."
    return f"---\n{head}---\n\n# {recipe.name}: {name}\n\n{intro}\n\n{text}"


def _head(recipe: Recipe, config: Mapping[str, Any]) -> dict[str, Any]:
    recurrent = config.get("model_type") == MODEL_TYPE
    sources = model_sources(recipe)
    hubs = [source.hub for source in sources if source.hub is not None]
    data = [s.hub.partition(":")[0] for s in recipe.prompts.values() if s.hub is not None]
    known = {
        "license": shared(sources, "license"),
        "base_model": hubs or None,
        "language": shared(sources, "language"),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "datasets": list(dict.fromkeys(data)) or None,
        "tags": ["stepwell", "reasoning", *(["recurrent-depth"] if recurrent else [])],
    }
    return {key: value for key, value in known.items() if value is not None}


def model_sources(recipe: Recipe) -> list[ModelSource]:
    """Every model that the recipe begins from: its base, and each student of a distillation."""
    own = [source for stage in recipe.stages.values() for source in stage.own_models.values()]
    return [recipe.model, *own]


def shared(sources: Sequence[ModelSource], key: str) -> Any:
    """What the cards of all these models state under a key, or None: then it is not ours to say.

    A card is the README.md beside the weights, and its statements the YAML at its head.
    """
    stated = [_card_head(source).get(key) for source in sources]
    kind = str if key == "license" else str | list
    return stated[0] if all(s == stated[0] and isinstance(s, kind) for s in stated) else None


def _card_head(source: ModelSource) -> Mapping[str, Any]:
    card = Path(source.path) / "README.md" if source.path is not None else None
    if card is None or not card.is_file():
        return {}
    before, _, rest = card.read_text().partition("---\n")
    try:
        head = None if before else yaml.safe_load(rest.partition("\n---")[0])
    except yaml.YAMLError:  # a card is anybody's text
        return {}
    return head if isinstance(head, dict) else {}


def _question(recipe: Recipe) -> str:
    """A question of the kind that the model was made for."""
    for source in recipe.prompts.values():
        if source.task == "swaps":
            return "2;25;24?"
    return "What is 2 + 3?"


def _use(folder: Path, config: Mapping[str, Any], question: str) -> str:
    """A snippet that runs with transformers alone, and what the model asks of its reader."""
    recurrent = config.get("model_type") == MODEL_TYPE
    template = (folder / "chat_template.jinja").is_file()
    quoted = json.dumps(question)
    effort = "high" if "high" in (config.get("efforts") or {}) else None
    snippet = SNIPPET.format(
        folder=FOLDER,
        trusted=", trust_remote_code=True" if recurrent else "",
        rendered=TEMPLATED.format(question=quoted)
        if template
        else f'__call__({quoted}, return_tensors="pt")',
        depth=f',\n    depth_request=model.request_for(effort="{effort}")' if effort else "",
    )
    own = (
        "\nThe model's own code is in this folder (`trust_remote_code`), and needs nothing but "
        "transformers. `stepwell serve` serves it through vLLM.\n"
        if recurrent
        else ""
    )
    return f"{snippet}{own}"


def _results(name: str, results: Sequence[Mapping[str, Any]]) -> str:
    """The table, this model's rows first."""
    if not results:
        return "It was not evaluated.\n"
    own = [row for row in results if row["model"] == name]
    others = [row for row in results if row["model"] != name]
    rows = "".join(
        f"| {'**' if row in own else ''}{row['model']}{'**' if row in own else ''} | "
        f"{row['prompts']} | {row['accuracy']:.1%} ({row['ci_low']:.1%} to {row['ci_high']:.1%}) | "
        f"{row.get('problems', '')} x {row.get('samples_per_prompt', '')} | "
        f"{row['mean_tokens']:.0f} |\n"
        for row in (*own, *others)
    )
    return (
        "| model | prompts | accuracy (95 % interval) | prompts x samples | mean tokens |\n"
        f"|---|---|---|---|---|\n{rows}"
    )


def _depth(config: Mapping[str, Any]) -> str:
    """What a recurrent model's depth is, and its calibration."""
    if config.get("model_type") != MODEL_TYPE:
        return ""
    full, most = config["num_iterations"], config["max_iterations"]
    text = f"A core of layers is iterated: {full} times unless asked otherwise, {most} at most.\n"
    table, efforts = config.get("depth_calibration"), config.get("efforts")
    if not table or not efforts:
        return text
    rows = "".join(
        f"| {row['budget']:.2f} | {', '.join(k for k, v in efforts.items() if v == row['budget'])} "
        f"| {row['mean_depth']:.2f} | {row['accuracy']:.1%} |\n"
        for row in table
    )
    return (
        f"{text}A halting policy decides each token's depth, at a budget or an effort:\n\n"
        f"| budget | effort | mean depth | accuracy when calibrated |\n|---|---|---|---|\n{rows}"
    )


def _stages(ctx: RunContext) -> str:
    rows = "".join(
        f"| {s.name} | {s.kind} | {', '.join(dict.fromkeys(i.name for i in s.inputs))} |\n"
        for s in ctx.plan.stages
    )
    return f"| stage | kind | reads |\n|---|---|---|\n{rows}"


def _vocabulary(ctx: RunContext, name: str) -> str:
    if not is_pruned(ctx.plan.recipe, name):
        return ""
    info = ctx.artifacts[BASE].manifest.info
    return (
        f"It was trained, sampled and scored with its vocabulary "
        f"{pruning_text(info)}. This folder has the full vocabulary again: rows of tokens that "
        "stayed are trained, the others are the base model's.\n"
    )


def _data(recipe: Recipe) -> str:
    rows = "".join(
        f"| {key} | {_said(source)} | {_licence(source)} |\n"
        for key, source in recipe.prompts.items()
    )
    return f"| name | source | licence |\n|---|---|---|\n{rows}"


def _said(source: PromptSource) -> str:
    values = source.model_dump(exclude_defaults=True, exclude={"examples"})
    return ", ".join(f"{key}: {value}" for key, value in values.items()).replace("|", "\\|")


def _licence(source: PromptSource) -> str:
    """What is known of a source's licence without asking anybody."""
    if source.task is not None:
        return "generated by Stepwell, Apache-2.0"
    if source.gym is not None:
        return "generated by reasoning-gym, Apache-2.0"
    return "see the data set's own card" if source.hub is not None else "the file's own"


def _compute(ctx: RunContext, results: Sequence[Mapping[str, Any]]) -> str:
    """Hours by stage, on what; joules of an answer where they were measured or estimated."""
    made = [(s.name, ctx.artifacts[s.name].manifest) for s in _finished(ctx)]
    rows = "".join(f"| {name} | {m.seconds / 60:.1f} |\n" for name, m in made)
    text = f"| stage | minutes |\n|---|---|\n{rows}" if rows else ""
    machines = dict.fromkeys(
        ", ".join(f"{key} {value}" for key, value in m.surroundings.get("machine", {}).items())
        for _, m in made
    )
    if said := "; ".join(machine for machine in machines if machine):
        text += f"\nOn: {said}.\n"
    joules = [
        f"{row['model']} {row['joules_per_answer']:.3g} J ({row['energy_source']})"
        for row in results
        if row.get("joules_per_answer") is not None
    ]
    if joules:
        text += (
            f"\nAn answer took: {', '.join(joules)}. `analytic` is an estimate by FLOPs; "
            "training's energy was not measured.\n"
        )
    return text


def _finished(ctx: RunContext) -> Iterator[Any]:
    return (stage for stage in ctx.plan.stages if stage.name in ctx.artifacts)


def _lineage(ctx: RunContext, name: str) -> str:
    """The fingerprints of all that the model comes from, the newest first."""
    plans = {stage.name: stage for stage in ctx.plan.stages}
    waiting, seen = [name], dict[str, Artifact]()
    while waiting:
        current = waiting.pop(0)
        if current in seen or current not in ctx.artifacts:
            continue
        seen[current] = ctx.artifacts[current]
        if current in plans:
            waiting += [item.name for item in plans[current].inputs]
    rows = "".join(
        f"| {key} | {artifact.manifest.kind} | `{artifact.manifest.fingerprint[:16]}` |\n"
        for key, artifact in seen.items()
    )
    return f"| what | kind | fingerprint |\n|---|---|---|\n{rows}"


def _limits(recipe: Recipe, results: Sequence[Mapping[str, Any]]) -> str:
    """What nobody should take the card for."""
    lines = [
        "It was trained for the prompts above; of anything else its answers are not known.",
        "Answers can be wrong however sure they sound, and were not looked at for harm.",
    ]
    if any(row["problems"] < 200 for row in results if "problems" in row):
        lines.append("Few problems were evaluated on: mind the intervals.")
    if not any(source.decontaminate for source in recipe.prompts.values()):
        lines.append("Nothing was decontaminated but what is generated, whose splits are disjoint.")
    return "".join(f"- {line}\n" for line in lines)
