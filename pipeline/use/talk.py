"""A conversation with a model: questions go in, answers come out as they are written.

transformers' own `generate` writes them, for dense and recurrent models alike, in this thread: so
Ctrl-C lands between two tokens and ends the answer, not the conversation.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from pipeline.errors import WrongInput
from pipeline.generate.chat import with_opening
from pipeline.generate.depth_choice import chosen_depth, full_depth
from pipeline.generate.reasoning import Parts, parts_of
from pipeline.recurrent.request import DepthRequest
from pipeline.use.spoken_model import SpokenModel

Stop = Literal["eos", "length", "interrupted"]
Tell = Callable[[Parts], None]

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what an unfinished character decodes to


class NoRoom(WrongInput):
    """The conversation is longer than the model's positions."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer. `mean_depth` counts iterations per token; None for a dense model."""

    question: str
    reasoning: str
    answer: str
    tokens: int
    stop: Stop
    seconds: float
    mean_depth: float | None
    full_depth: int | None

    def document(self) -> dict[str, Any]:
        """The reply as JSON has it."""
        return asdict(self)


@dataclass
class Talk:
    """A conversation. What was said is `turns`: answers without their reasoning, as templates of
    reasoning models have it."""

    spoken: SpokenModel
    request: DepthRequest | None
    decided_by: str  # who decides the depths, in words; "" for a dense model
    max_tokens: int | None = None  # of an answer; None: the room that is left
    turns: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def begin(
        cls, spoken: SpokenModel, choice: Mapping[str, Any], *, max_tokens: int | None = None
    ) -> "Talk":
        """A conversation at the depth of choice (one of effort, budget and depth, or none).

        Raises DepthRefused.
        """
        request, words = chosen_depth(spoken.config, spoken.generation, choice)
        return cls(spoken=spoken, request=request, decided_by=words, max_tokens=max_tokens)

    def ask(self, question: str, *, tell: Tell) -> Reply:
        """The model's answer, of which `tell` hears after every token, with all that was said
        before. One that was interrupted is no part of the conversation.

        Raises NoRoom, and TurnsRefused where the chat template takes no such turns.
        """
        chat = self.spoken.chat
        text = chat.render(question, (), self.turns)
        prompt = chat.prompt_ids(text)
        writer = _Writer(self.spoken, opened=bool(with_opening(text, "")), tell=tell)
        start = time.monotonic()
        stop = self._write(prompt, writer)
        parts = writer.parts.whole
        if stop != "interrupted":
            said = parts.answer.strip() if parts.ended else ""
            self.turns += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": said},
            ]
        return Reply(
            question=question,
            reasoning=parts.reasoning,
            answer=parts.answer,
            tokens=len(writer.tokens),
            stop=stop,
            seconds=time.monotonic() - start,
            mean_depth=writer.mean_depth,
            full_depth=None
            if self.request is None
            else full_depth(self.spoken.config, self.request),
        )

    def _write(self, prompt: tuple[int, ...], writer: "_Writer") -> Stop:
        room = self.spoken.positions - len(prompt)
        if room < 1 or not prompt:
            raise NoRoom(
                f"the conversation has {len(prompt):,} tokens and the model room for "
                f"{self.spoken.positions:,}: begin another one"
            )
        model = self.spoken.model
        ids = torch.tensor([prompt], device=model.device)
        depth: dict[str, Any] = {}
        if self.request is not None:
            depth["depth_request"] = self.request
        if self.request is not None and self.request.sampled:
            depth["depth_seed"] = torch.randint(2**31, (1,), device=model.device)
        hook = model.get_submodule("model").register_forward_hook(writer.note) if depth else None
        try:
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=min(room, self.max_tokens or room),
                streamer=writer,
                **depth,
            )
        except KeyboardInterrupt:
            return "interrupted"
        finally:
            if hook is not None:
                hook.remove()
        return "eos" if writer.tokens and writer.tokens[-1] in self.spoken.chat.ends else "length"


class _Writer(BaseStreamer):
    """Hears every token that `generate` draws, and the depths of a recurrent model's positions."""

    def __init__(self, spoken: SpokenModel, *, opened: bool, tell: Tell) -> None:
        tokenizer = spoken.chat.tokenizer
        self.tokens: list[int] = []
        self.parts = parts_of("", opened=opened)
        self._tokenizer, self._opened, self._tell = tokenizer, opened, tell
        self._silent = {*spoken.chat.ends, tokenizer.pad_token_id}
        self._calls: list[float] = []  # [calls] mean of the batch's newest position
        self._text = ""
        self._before: list[int] = []  # the token whose text was taken last
        self._open: list[int] = []  # those whose text is not whole yet

    @property
    def mean_depth(self) -> float | None:
        """Iterations per token that was written; None for a dense model or no token."""
        depths = self._calls[: len(self.tokens)]
        return sum(depths) / len(depths) if depths else None

    def note(self, _module: Any, _inputs: Any, out: Any) -> None:
        """Remember the depth at which a call's last position ran: the next token is drawn there."""
        self._calls.append(float(out.depths[0, -1]))

    def put(self, value: Tensor) -> None:
        """First the prompt, then one token a call."""
        if value.dim() > 1:
            return
        token = int(value[-1])
        self.tokens.append(token)
        if token not in self._silent:
            self._read(token)
        self._tell(self.parts)

    def end(self) -> None:
        """Nothing more comes: what is not whole is text too."""
        if self._open:
            self._take(self._decoded())

    def _read(self, token: int) -> None:
        """Take a token's text, as soon as no later token can make another character of it."""
        self._open.append(token)
        text = self._decoded()
        if not text.endswith(REPLACEMENT):
            self._take(text)

    def _decoded(self) -> str:
        """What the open tokens add to the one before: some tokenizers write a word's space only
        where a word comes before it."""
        known = self._tokenizer.decode(self._before, skip_special_tokens=False)
        text = self._tokenizer.decode([*self._before, *self._open], skip_special_tokens=False)
        return text[len(known) :]

    def _take(self, text: str) -> None:
        self._text += text
        self.parts = parts_of(self._text, opened=self._opened)
        self._before, self._open = self._open, []
