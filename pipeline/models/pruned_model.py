"""A model folder with a part of its vocabulary, and the way back.

    full model --prune--> pruned model --training--> pruned model --restore--> full model
                     \\--> rows of all tokens, the whole tokenizer -----------/

The embedding's and the head's rows of tokens that stay are the full model's, so their logits are,
too; log-probabilities differ by what the others had.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from pipeline.models.model_folder import ModelError, load_without_data
from pipeline.models.pruned_tokenizer import kept_tokens, pruned, refusal, with_types
from pipeline.models.streaming import Rows, save_streamed, stored_files, stored_tensor
from pipeline.recurrent.convert.passes import load_for_passes
from pipeline.recurrent.convert.tensor_files import opened
from pipeline.recurrent.explore import carry_judge

ROWS_FILE = "vocabulary.safetensors"  # beside the whole tokenizer: rows of all tokens
TOKENIZER_FILE = "tokenizer.json"
OTHER_VOCABULARIES = ("tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
"""Files that say again what tokens there are."""


def prune(
    full: Path,
    out: Path,
    vocabulary: Path,
    *,
    used: Iterable[int],
    margin: int,
    sample: Sequence[tuple[Sequence[int], Sequence[int]]],
) -> dict[str, Any]:
    """Write to `out` the model of `full` with the tokens `used`, a margin, and all that spells the
    rest; to `vocabulary` what `restore` needs.

    `sample` is prompts and completions in the full model's tokens, to measure what is lost on: a
    pass each, in which a large model's layers come from its files. Beside that, no more than a few
    tensors are in memory at a time.

    Returns:
        kept (the full model's id of each token), tokens, of_tokens (rows before),
        lost_probability (what tokens that are gone had, a mean over the sample's completion
        tokens), lost_probability_max.

    Raises ModelError for a model or tokenizer that cannot lose tokens.
    """
    tokenizer = AutoTokenizer.from_pretrained(full)
    tokenizer.save_pretrained(vocabulary)
    spec = _spec(vocabulary)
    model, useless = load_without_data(full)
    names = _row_names(model, full)
    rows = {part: stored_tensor(full, name) for part, name in names.items()}
    size = len(rows["embedding"])
    kept = kept_tokens(spec, {*used, *_named_tokens(model)}, margin=margin)
    if max(kept) >= size:
        raise ModelError(f"the tokenizer has a token {max(kept)}, and the model only {size}")
    indices = torch.tensor(kept)
    save_file({**rows, "kept": indices}, vocabulary / ROWS_FILE)
    del rows
    lost = _lost(full, indices, sample)
    new_ids = {old: new for new, old in enumerate(kept)}
    _resize(model, len(kept), new_ids.get)
    few = Rows(count=len(kept), of=lambda tensor: tensor[indices])
    save_streamed(
        model, out, folder=full, leave_out=useless, rows=dict.fromkeys(names.values(), few)
    )
    tokenizer.save_pretrained(out)
    carry_judge(full, out)
    _write_tokenizer(out, pruned(spec, kept), new_ids)
    expected = {text: new_ids[id_] for text, id_ in tokenizer.get_vocab().items() if id_ in new_ids}
    if AutoTokenizer.from_pretrained(out).get_vocab() != expected:
        raise ModelError(
            "model.vocabulary: transformers reads the pruned tokenizer otherwise than it was "
            "written; leave vocabulary out for this model"
        )
    return {"kept": kept, "tokens": len(kept), "of_tokens": size, **lost}


def restore(model_folder: Path, vocabulary: Path, out: Path) -> None:
    """Write to `out` a model that was pruned and trained with all tokens of the vocabulary it came
    from: rows of tokens that stayed are the model's, the others those they were before."""
    model, useless = load_without_data(model_folder)
    with opened([vocabulary / ROWS_FILE]) as stored:
        kept = stored["kept"].get_tensor("kept")
        size = stored["embedding"].get_slice("embedding").get_shape()[0]
    rows = {
        name: Rows(count=size, of=partial(_whole, file=vocabulary / ROWS_FILE, part=part))
        for part, name in _row_names(model, model_folder).items()
    }
    _resize(model, size, dict(enumerate(kept.tolist())).get)
    save_streamed(model, out, folder=model_folder, leave_out=useless, rows=rows)
    carry_judge(model_folder, out)
    for file in vocabulary.iterdir():
        if file.name != ROWS_FILE:
            shutil.copy2(file, out / file.name)


def _whole(trained: Tensor, *, file: Path, part: str) -> Tensor:
    """The rows of all tokens, with the `trained` ones of those that were kept."""
    with opened([file]) as stored:
        rows, kept = (stored[name].get_tensor(name) for name in (part, "kept"))
    return rows.to(trained.dtype).index_copy(0, kept, trained)


def _row_names(model: PreTrainedModel, folder: Path) -> dict[str, str]:
    """What has a row for each token, and its name in the model's folder: embedding, a head of its
    own, and its bias. The name of the backbone may stand before it or not."""
    inputs: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    parts = {"embedding": inputs.weight}
    if head is not None and head.weight is not inputs.weight:
        parts["head"] = head.weight
    if head is not None and head.bias is not None:
        parts["bias"] = head.bias
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    backbone = f"{model.base_model_prefix}."
    with opened(stored_files(folder)) as stored:
        plain = {name.removeprefix(backbone): name for name in stored}
    return {part: plain[names[id(one)].removeprefix(backbone)] for part, one in parts.items()}


def _resize(model: PreTrainedModel, size: int, new_id: Callable[[int], int | None]) -> None:
    """Give a model so many tokens, and its settings the new ids of the tokens that they name."""
    model.resize_token_embeddings(size, mean_resizing=False)
    for settings, key, value in list(_named(model)):
        ids = [new_id(id_) for id_ in value] if isinstance(value, list) else new_id(value)
        setattr(settings, key, ids)


def _named(model: PreTrainedModel) -> Iterator[tuple[Any, str, int | list[int]]]:
    """Settings of a model that name tokens: where, under which key, and which."""
    every = (model.config, model.config.get_text_config(), model.generation_config)
    for settings in {id(one): one for one in every if one is not None}.values():
        for key, value in vars(settings).items():
            if key.endswith("_token_id") and isinstance(value, int | list):
                yield settings, key, value


def _named_tokens(model: PreTrainedModel) -> Iterator[int]:
    for _, _, value in _named(model):
        yield from value if isinstance(value, list) else [value]


@torch.no_grad()
def _lost(
    full: Path, kept: Tensor, sample: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> dict[str, float]:
    """Probability outside the tokens `kept`, mean and maximum over completion tokens."""
    if not sample:
        return {}
    model = load_for_passes(full)
    lost = []
    for prompt, completion in sample:
        ids = torch.tensor([[*prompt, *completion]])
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double()
        lost.append(1 - logits.softmax(-1)[:, kept].sum(-1))
    every = torch.cat(lost).clamp_min(0)
    if not len(every):
        return {}
    return {"lost_probability": float(every.mean()), "lost_probability_max": float(every.max())}


def _spec(folder: Path) -> dict[str, Any]:
    file = folder / TOKENIZER_FILE
    if not file.is_file():
        raise ModelError(
            f"model.vocabulary: the model has no {TOKENIZER_FILE}, and only such a tokenizer can "
            "lose tokens; leave vocabulary out"
        )
    spec = json.loads(file.read_text(encoding="utf-8"))
    if (reason := refusal(spec)) is not None:
        raise ModelError(f"model.vocabulary: {reason}; leave vocabulary out")
    return with_types(spec)


def _write_tokenizer(folder: Path, spec: Mapping[str, Any], new_ids: Mapping[int, int]) -> None:
    for name in OTHER_VOCABULARIES:
        (folder / name).unlink(missing_ok=True)
    (folder / TOKENIZER_FILE).write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    if "added_tokens_decoder" in settings:
        settings["added_tokens_decoder"] = {
            str(new_ids[int(id_)]): token for id_, token in settings["added_tokens_decoder"].items()
        }
    for key in [key for key in settings if key.endswith("_token_id")]:
        settings[key] = new_ids.get(settings[key])
    file.write_text(json.dumps(settings, indent=1, ensure_ascii=False), encoding="utf-8")
