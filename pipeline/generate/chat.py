"""Prompt -> the exact text and tokens a model sees; tokens -> the text a reward sees."""

from pathlib import Path
from typing import Any

from pipeline.records import Rollout


def load_tokenizer(model: Path) -> Any:
    """The tokenizer of a model folder, with padding and end-of-sequence tokens set."""
    from transformers import AutoTokenizer  # heavy

    from pipeline.recurrent.config import register_config

    register_config()
    return AutoTokenizer.from_pretrained(str(model))


def render(tokenizer: Any, question: str, system: str | None) -> str:
    """The prompt text: through the chat template where there is one, as it stands otherwise."""
    if tokenizer.chat_template is None:
        return f"{system}\n{question}" if system else question
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


def encode(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of rendered text; the template has placed every special token already."""
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def completion_text(tokenizer: Any, rollout: Rollout) -> str:
    """The completion as a reward sees it: without the end token, with its <think> tags."""
    return tokenizer.decode(list(rollout.tokens), skip_special_tokens=True)
