"""Reasoning told from content in vLLM, whatever the tokenizer makes of the tags."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.generate.chat import load_chat
from pipeline.use import think_parser
from pipeline.use.server import PARSER
from tests.conftest import MakeFamily

FAMILIES = ("special_think", "opens_think", "words", "qwen_base", "pieces_base")


def streamed(parser: think_parser.ThinkParser, tokenizer: Any, ids: list[int]) -> tuple[str, str]:
    """Reasoning and content of an answer that comes token by token, as vLLM calls the parser."""
    reasoning, content, before, over = "", "", "", False
    for count in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:count], skip_special_tokens=False)
        if over:
            content += text[len(before) :]
        else:
            delta = parser.extract_reasoning_streaming(
                before, text, text[len(before) :], ids[: count - 1], ids[:count], ids[count - 1 :]
            )
            if delta is not None:
                reasoning, content = (
                    reasoning + (delta.reasoning or ""),
                    content + (delta.content or ""),
                )
            over = parser.is_reasoning_end_streaming(ids[:count], ids[count - 1 : count])
        before = text
    if not over:
        content += parser.get_streaming_fallback_content(before, None) or ""
    return reasoning, content


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("said", "reasoning", "content"),
    [
        ("<think>a b</think>c", "a b", "c"),
        ("<think>a", "a", ""),
        ("<think></think>c", "", "c"),
    ],
)
def test_whole_and_streamed(
    make_family: MakeFamily, name: str, said: str, reasoning: str, content: str
) -> None:
    tokenizer = load_chat(make_family(name)).tokenizer
    parser = think_parser.ThinkParser(tokenizer)
    ids = tokenizer(said, add_special_tokens=False)["input_ids"]
    text = tokenizer.decode(ids, skip_special_tokens=False)
    assert text.strip() == said
    assert parser.extract_reasoning(text, None) == (reasoning or None, content or None)
    assert streamed(parser, tokenizer, ids) == (reasoning, content)
    assert 0 <= parser.count_reasoning_tokens(ids) <= len(ids)


def test_a_model_that_does_not_reason_hides_nothing(make_family: MakeFamily) -> None:
    tokenizer = load_chat(make_family("words")).tokenizer
    parser = think_parser.ThinkParser(tokenizer)
    for said in ("7", "7 < 8", "<", "<thin"):
        ids = tokenizer(said, add_special_tokens=False)["input_ids"]
        assert parser.extract_reasoning(said, None) == (None, said)
        assert streamed(parser, tokenizer, ids) == ("", said)
        assert parser.count_reasoning_tokens(ids) == 0


def test_a_prompt_that_opened_the_tag(make_family: MakeFamily) -> None:
    parser = think_parser.ThinkParser(load_chat(make_family("opens_think")).tokenizer)
    assert parser.extract_reasoning("a</think>b", None) == ("a", "b")
    assert parser.extract_reasoning("a", None) == ("a", None)


def test_an_earlier_turns_reasoning_does_not_end_this_ones(make_family: MakeFamily) -> None:
    tokenizer = load_chat(make_family("words")).tokenizer
    parser = think_parser.ThinkParser(tokenizer)

    def ends(text: str) -> bool:
        return parser.is_reasoning_end(tokenizer(text, add_special_tokens=False)["input_ids"])

    assert not ends("<think>a</think>b</turn>\n### user:\nc</turn>\n### assistant:\n")
    assert ends("### assistant:\n<think>\n\n</think>\n\n")


def test_tags_that_are_special_tokens_stay_in_the_text(make_family: MakeFamily) -> None:
    class Request:
        skip_special_tokens = True

    special = think_parser.ThinkParser(load_chat(make_family("special_think")).tokenizer)
    plain = think_parser.ThinkParser(load_chat(make_family("qwen_base")).tokenizer)
    assert not special.adjust_request(Request()).skip_special_tokens
    assert plain.adjust_request(Request()).skip_special_tokens


def test_it_is_registered_under_the_servers_name() -> None:
    from vllm.reasoning import ReasoningParserManager

    parser = ReasoningParserManager.get_reasoning_parser(PARSER)
    assert parser.__name__ == "ThinkParser"
    assert Path(think_parser.__file__).name == "think_parser.py"
