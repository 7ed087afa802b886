"""Texts are the same tokens with fewer of them, and every other text can still be written."""

import json
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel, WordPiece

from pipeline.models.pruned_tokenizer import kept_tokens, pruned, refusal
from tests.models.tokenizer_kinds import KINDS, ODD, content, texts

MARGIN = 40


def fewer(
    kind: str, own: list[str], *, margin: int = MARGIN
) -> tuple[Tokenizer, Tokenizer, list[int]]:
    """The whole tokenizer, the pruned one for some texts, and what the latter's ids were."""
    spec = json.loads(content(kind))
    whole = Tokenizer.from_str(content(kind))
    used = {id_ for text in own for id_ in whole.encode(text).ids}
    kept = kept_tokens(spec, used, margin=margin)
    return whole, Tokenizer.from_str(json.dumps(pruned(spec, kept))), kept


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [8, 40])
def test_own_texts_are_the_same_tokens(kind: str, every: int) -> None:
    own = [*texts()[::every], "<|im_start|>user\nWhat is 12+30?<|im_end|>\n"]
    whole, few, kept = fewer(kind, own)
    assert len(kept) == few.get_vocab_size() < whole.get_vocab_size()
    for text in own:
        assert [kept[id_] for id_ in few.encode(text).ids] == whole.encode(text).ids
    for new, old in enumerate(kept):
        assert few.id_to_token(new) == whole.id_to_token(old)


@pytest.mark.parametrize("kind", KINDS)
def test_other_texts_can_be_written_in_smaller_pieces(kind: str) -> None:
    whole, few, kept = fewer(kind, texts()[:2], margin=0)
    longer = 0
    for text in [ODD, *texts()[50:150]]:
        ids, before = few.encode(text).ids, whole.encode(text).ids
        assert few.decode(ids) == whole.decode(before)
        longer += len(ids) - len(before)
    assert longer > 0
    assert set(range(len(kept))) >= set(few.encode(ODD).ids)


@pytest.mark.parametrize("kind", KINDS)
def test_blanks_are_written_though_no_own_text_has_one(kind: str) -> None:
    whole, few, _ = fewer(kind, ["a"], margin=0)
    for text in ("Save this", "two  blanks", "line\n  indented"):
        assert few.decode(few.encode(text).ids) == whole.decode(whole.encode(text).ids)


@pytest.mark.parametrize("kind", KINDS)
def test_the_margin_is_the_first_tokens(kind: str) -> None:
    without, some = (fewer(kind, texts()[:20], margin=margin)[2] for margin in (0, 100))
    assert set(without) < set(some)
    assert 100 <= len(some) - len(without) <= 100 + 20  # with what its last one arises from
    everything = fewer(kind, texts()[:20], margin=10**6)[2]
    assert sorted(everything) == list(range(len(everything)))


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_keep_their_places_around_a_text(kind: str) -> None:
    whole, few, kept = fewer(kind, ["a"])
    assert [kept[id_] for id_ in few.encode("a").ids] == whole.encode("a").ids
    assert (len(few.encode("a").ids) > 1) == (kind == "llama3")
    assert few.token_to_id("<|im_end|>") == kept.index(whole.token_to_id("<|im_end|>"))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (json.loads(Tokenizer(WordPiece()).to_str())["model"], "WordPiece"),
        (json.loads(Tokenizer(WordLevel()).to_str())["model"], "WordLevel"),
        ({"type": "BPE", "vocab": {}, "merges": [], "end_of_word_suffix": "</w>"}, "end of words"),
        ({"type": "BPE", "merges": [], "continuing_subword_prefix": "##"}, "inside"),
        ({}, "unknown"),
    ],
)
def test_what_cannot_spell_is_refused(model: dict[str, Any], reason: str) -> None:
    assert reason in (refusal({"model": model}) or "")


@pytest.mark.parametrize("kind", KINDS)
def test_what_can_spell_is_not_refused(kind: str) -> None:
    assert refusal(json.loads(content(kind))) is None
