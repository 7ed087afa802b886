"""Answers of a conversation: those of the engines, at their depths, as they are written."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.generate.chat import load_chat
from pipeline.generate.native_engine import NativeEngine
from pipeline.generate.reasoning import Parts
from pipeline.records import Request
from pipeline.use.model_place import model_place
from pipeline.use.spoken_model import SpokenModel, spoken_model
from pipeline.use.talk import NoRoom, Talk
from tests.conftest import MakeFamily
from tests.generate.engine_settings import cpu_settings

SETTINGS = cpu_settings(tokens=256, sequences=2, gib=0.2, engine="native")
QUESTION = "2;25;24?"


def silent(_: Parts) -> None:
    """Hear nothing."""


def spoken(folder: Path) -> SpokenModel:
    return spoken_model(model_place(str(folder)))


@pytest.mark.parametrize(
    "choice", [{}, {"effort": "low"}, {"effort": "high"}, {"budget": 0.4}, {"depth": 4}], ids=str
)
def test_tokens_and_depths_are_the_native_engines(calibrated: Path, choice: dict[str, Any]) -> None:
    talk = Talk.begin(spoken(calibrated), choice, max_tokens=24)
    reply = talk.ask(QUESTION, tell=silent)
    chat = load_chat(calibrated)
    prompt = chat.prompt_ids(chat.render(QUESTION, ()))
    request = Request(
        prompt_id="a",
        prompt_tokens=prompt,
        sample=0,
        seed=0,
        max_tokens=24,
        temperature=0.0,
        depth=talk.request,
    )
    (rollout,) = NativeEngine(calibrated, SETTINGS, version=0).generate([request], version=0)
    assert rollout.depths is not None
    assert chat.completion_text(rollout) == reply.reasoning + reply.answer
    assert reply.tokens == len(rollout.tokens)
    assert reply.stop == rollout.stop
    assert reply.mean_depth == pytest.approx(sum(rollout.depths) / len(rollout.depths))
    assert reply.full_depth == 6


def test_a_second_question_is_read_after_the_first() -> None:
    talk = Talk.begin(spoken(Path("data/models/tiny-student")), {})
    first = talk.ask(QUESTION, tell=silent)
    assert first.mean_depth is None
    talk.ask(QUESTION, tell=silent)
    assert [turn["role"] for turn in talk.turns] == ["user", "assistant"] * 2
    assert talk.turns[1]["content"] == first.answer
    assert "<think>" not in talk.turns[1]["content"]


def test_an_interrupted_answer_is_kept_and_no_part_of_the_conversation() -> None:
    talk = Talk.begin(spoken(Path("data/models/tiny")), {})
    heard: list[Parts] = []

    def impatient(parts: Parts) -> None:
        heard.append(parts)
        if len(heard) == 3:
            raise KeyboardInterrupt

    reply = talk.ask(QUESTION, tell=impatient)
    assert (reply.stop, reply.tokens, talk.turns) == ("interrupted", 3, [])
    assert talk.ask(QUESTION, tell=silent).stop == "eos"


def test_what_the_prompt_opened_is_reasoning(make_family: MakeFamily) -> None:
    """A template that ends with the opening tag, and a model that says nothing but `a`."""
    folder = make_family("opens_think", says="a")
    reply = Talk.begin(spoken(folder), {}, max_tokens=5).ask("x", tell=silent)
    assert (reply.reasoning, reply.answer, reply.stop) == ("aaaaa", "", "length")


class Reciter:
    """A model that says the same tokens whatever it is asked."""

    device = "cpu"

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tokens
        self.config = SimpleNamespace(to_dict=lambda: {"model_type": "llama"})
        self.generation_config = SimpleNamespace(to_dict=dict)

    def generate(self, ids: torch.Tensor, *, streamer: Any, **_: Any) -> None:
        """Write the tokens one by one."""
        streamer.put(ids)
        for token in self.tokens:
            streamer.put(torch.tensor([token]))
        streamer.end()


def test_every_tokenizers_text_is_whole(make_family: MakeFamily, family_name: str) -> None:
    """Token by token the text is what the tokenizer makes of all of them, characters of several
    tokens and the spaces between words included."""
    folder = make_family(family_name)
    chat = load_chat(folder)
    said = "Hé, a 🙂  b\n\n<think> c"
    tokens = chat.tokenizer(said, add_special_tokens=False)["input_ids"]
    place = model_place(str(folder))
    reciter = SpokenModel(place=place, model=Reciter([*tokens, chat.ends[0]]), chat=chat)
    heard: list[Parts] = []
    reply = Talk.begin(reciter, {}).ask("Hello", tell=heard.append)
    assert reply.reasoning + reply.answer == chat.tokenizer.decode(tokens)
    assert (len(heard), reply.stop) == (len(tokens) + 1, "eos")


def test_a_conversation_without_room(calibrated: Path) -> None:
    with pytest.raises(NoRoom, match="room for 512"):
        Talk.begin(spoken(calibrated), {}).ask("1;" * 400, tell=silent)
