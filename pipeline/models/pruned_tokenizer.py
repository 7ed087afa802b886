"""A tokenizer with fewer tokens, which writes some texts exactly as the whole one: the content of
its `tokenizer.json`. Pure; loads no ML library.

Which tokens stay, and why texts made of them stay as they are:

- BPE merges the pair of lowest rank again and again. All that arises on the way to a token that
  stays does stay, and so do its merges. At each step of such a text the whole tokenizer's next
  merge is there, and no other can be sooner, as those that are left keep their order.
- Unigram takes the likeliest pieces. A text's best pieces stay; others can only go. The least
  likely piece stays, too: what an unknown character costs goes by it.

Bytes stay, or single characters where a tokenizer has no bytes, so that whatever the whole
tokenizer can write can be written. SentencePiece's mark of a blank stays as well: bytes spell the
mark itself, which is no blank.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Spec = Mapping[str, Any]
"""The content of a `tokenizer.json`."""

KINDS = ("BPE", "Unigram")
BLANK = "\u2581"  # of SentencePiece


def refusal(spec: Spec) -> str | None:
    """Why a tokenizer cannot lose tokens; None where it can."""
    model = spec.get("model") or {}
    kind = model.get("type") or ("BPE" if "merges" in model else None)
    if kind not in KINDS:
        return (
            f"its tokenizer is of the kind {kind or 'unknown'}, which cannot spell a word that has "
            f"no token; only {' and '.join(KINDS)} can"
        )
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return "its tokenizer marks the inside or the end of words, which is not supported"
    return None


def kept_tokens(spec: Spec, used: Iterable[int], *, margin: int) -> list[int]:
    """Ids of the tokens that stay, each at the place that is its new id.

    Args:
        used: ids that texts are made of.
        margin: how many of the first, which are the most frequent, stay besides.
    """
    vocabulary = _vocabulary(spec)
    added = {token["id"] for token in spec["added_tokens"]}
    parts = _bpe_parts(spec) if spec["model"]["type"] == "BPE" else _no_parts
    texts = {id_: text for text, id_ in vocabulary.items()}
    keep: set[int] = set()

    def add(id_: int) -> None:
        if id_ in texts and id_ not in keep:
            keep.add(id_)
            keep.update(vocabulary[part] for part in parts(texts[id_]) if part in vocabulary)

    for id_ in (*_always(spec, vocabulary), *used):
        add(id_)
    most = len(keep - added) + margin
    for id_ in sorted(texts):
        if len(keep - added) >= most:
            break
        add(id_)
    # tokens that are only added follow those of the model, as tokenizers numbers them
    own = {id_ for id_ in added if id_ in texts}
    return [*sorted(keep | own), *sorted(added - own)]


def pruned(spec: Spec, kept: Sequence[int]) -> dict[str, Any]:
    """The `tokenizer.json` of the tokens `kept`, of `kept_tokens`."""
    new_ids = {old: new for new, old in enumerate(kept)}
    vocabulary = {
        text: new_ids[id_]
        for text, id_ in sorted(_vocabulary(spec).items(), key=lambda item: item[1])
        if id_ in new_ids
    }
    model = dict(spec["model"])
    if model["type"] == "BPE":
        model["vocab"] = vocabulary
        model["merges"] = [
            list(pair)
            for pair in _merges(spec)
            if all(text in vocabulary for text in (*pair, "".join(pair)))
        ]
    else:
        model["vocab"] = [piece for id_, piece in enumerate(model["vocab"]) if id_ in new_ids]
        model["unk_id"] = None if model.get("unk_id") is None else new_ids[model["unk_id"]]
    content = {
        **spec,
        "model": model,
        "post_processor": renumbered(spec["post_processor"], new_ids),
    }
    content["added_tokens"] = [
        {**token, "id": new_ids[token["id"]]}
        for token in sorted(spec["added_tokens"], key=lambda token: new_ids[token["id"]])
    ]
    if content.get("padding"):
        content["padding"] = {
            **content["padding"],
            "pad_id": new_ids.get(content["padding"]["pad_id"], 0),
        }
    return content


def renumbered(processor: Any, new_ids: Mapping[int, int]) -> Any:
    """What puts special tokens around a text, with their new ids."""
    if isinstance(processor, list):
        return [renumbered(part, new_ids) for part in processor]
    if not isinstance(processor, dict):
        return processor
    content = {key: renumbered(value, new_ids) for key, value in processor.items()}
    if isinstance(special := content.get("special_tokens"), dict):  # TemplateProcessing
        content["special_tokens"] = {
            name: {**token, "ids": [new_ids[id_] for id_ in token["ids"]]}
            for name, token in special.items()
        }
    for key in ("sep", "cls"):  # BertProcessing, RobertaProcessing
        if isinstance(pair := content.get(key), list):
            content[key] = [pair[0], new_ids[pair[1]]]
    return content


def with_types(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its model's kind named, which older files leave out."""
    model = spec["model"]
    return {**spec, "model": {"type": "BPE", **model}} if "merges" in model else dict(spec)


def _vocabulary(spec: Spec) -> dict[str, int]:
    """Ids of the model's own tokens by text; the first of two equal pieces."""
    vocabulary = spec["model"]["vocab"]
    if isinstance(vocabulary, dict):
        return vocabulary
    return {text: id_ for id_, (text, _) in reversed(list(enumerate(vocabulary)))}


def _merges(spec: Spec) -> list[tuple[str, str]]:
    """Pairs in the order of their ranks; older files write a pair as one text."""
    return [
        tuple(pair) if isinstance(pair, list) else tuple(pair.split(" "))
        for pair in spec["model"]["merges"]
    ]


def _always(spec: Spec, vocabulary: Mapping[str, int]) -> Iterator[int]:
    """Bytes, or characters; the unknown one; the least likely one."""
    model = spec["model"]
    hexadecimal = {f"<0x{byte:02X}>" for byte in range(256)}
    byte_level = '"ByteLevel"' in json.dumps(spec.get("pre_tokenizer"))
    spelled = byte_level or not model["byte_fallback"]
    for text, id_ in vocabulary.items():
        if text in hexadecimal or text == BLANK or (len(text) == 1 and spelled):
            yield id_
    if model["type"] == "BPE":
        if (unknown := model.get("unk_token")) in vocabulary:
            yield vocabulary[unknown]
        return
    if model.get("unk_id") is not None:
        yield model["unk_id"]
    yield min(range(len(model["vocab"])), key=lambda id_: model["vocab"][id_][1])


def _no_parts(_: str) -> Iterator[str]:
    yield from ()


def _bpe_parts(spec: Spec) -> Any:
    """A function: all that arises when merging a token's text, its characters included."""
    ranks = {pair: rank for rank, pair in reversed(list(enumerate(_merges(spec))))}

    def parts(text: str) -> Iterator[str]:
        symbols = list(text)
        yield from symbols
        while True:
            pairs = list(zip(symbols, symbols[1:], strict=False))
            place = min(
                (i for i, pair in enumerate(pairs) if pair in ranks),
                key=lambda i: ranks[pairs[i]],
                default=None,
            )
            if place is None:
                return
            symbols[place : place + 2] = ["".join(pairs[place])]
            yield symbols[place]

    return parts
