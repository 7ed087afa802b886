"""vLLM's reasoning parser for `<think>` tags that need not be tokens, nor be there at all.

vLLM's own want both tags in the vocabulary, and some take a whole answer without tags for
reasoning. This one reads the text: what is in the tags, or after a prompt that opened them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.reasoning import ReasoningParser, ReasoningParserManager

from pipeline.generate.reasoning import CLOSE, OPEN, parts_of
from pipeline.use.server import PARSER

TAG_TOKENS = 16  # tokens that a tag can be spread over, and more


class ThinkParser(ReasoningParser):
    """One answer's reasoning and content."""

    def __init__(self, tokenizer: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(tokenizer, *args, **kwargs)
        self._tokenizer = tokenizer
        self._opened = _opens_reasoning(tokenizer)

    @property
    def reasoning_start_str(self) -> str:
        """What opens the reasoning."""
        return OPEN

    @property
    def reasoning_end_str(self) -> str:
        """What closes it, also where a thinking budget is spent."""
        return CLOSE

    def adjust_request(self, request: Any) -> Any:
        """Tags that are special tokens must be in the text."""
        added = self._tokenizer.added_tokens_decoder.values()
        if any(str(token) in (OPEN, CLOSE) and token.special for token in added):
            request.skip_special_tokens = False
        return request

    def is_reasoning_end(self, input_ids: Sequence[int]) -> bool:
        """Whether a prompt leaves nothing to reason: its template closed the tags itself."""
        return self._text(input_ids[-TAG_TOKENS:]).rstrip().endswith(CLOSE)

    def is_reasoning_end_streaming(
        self, input_ids: Sequence[int], delta_ids: Iterable[int]
    ) -> bool:
        """Whether the last tokens close the reasoning."""
        return CLOSE in self._text(input_ids[-len(list(delta_ids)) - TAG_TOKENS :])

    def extract_content_ids(self, input_ids: list[int]) -> list[int]:
        """The tokens after the reasoning."""
        for count in range(len(input_ids)):
            if CLOSE in self._text(input_ids[: count + 1]):
                return input_ids[count + 1 :]
        return []

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        """Reasoning and content of a whole answer."""
        parts = parts_of(model_output, opened=self._opened).whole
        return parts.reasoning or None, parts.answer or None

    def extract_reasoning_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
    ) -> DeltaMessage | None:
        """What is new of both; None where the last characters may begin a tag."""
        before = parts_of(previous_text, opened=self._opened)
        now = parts_of(current_text, opened=self._opened)
        reasoning = now.reasoning[len(before.reasoning) :]
        answer = now.answer[len(before.answer) :]
        if not reasoning and not answer:
            return None
        return DeltaMessage(reasoning=reasoning or None, content=answer or None)

    def get_streaming_fallback_content(self, text: str, request: Any) -> str | None:
        """At an answer's end: what was held back as the beginning of a tag."""
        parts = parts_of(text, opened=self._opened)
        return parts.held if parts.ended and parts.held else None

    def count_reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        """Tokens of the reasoning, its tags among them."""
        text = self._text(token_ids)
        if not self._opened and not text.lstrip().startswith(OPEN):
            return 0
        return len(token_ids) - len(self.extract_content_ids(list(token_ids)))

    def _text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)


def _opens_reasoning(tokenizer: Any) -> bool:
    """Whether the chat template ends a prompt with the opening tag."""
    if getattr(tokenizer, "chat_template", None) is None:
        return False
    asked = [{"role": "user", "content": "?"}]
    text = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    return text.rstrip().endswith(OPEN)


ReasoningParserManager.register_module(PARSER, module=ThinkParser)
