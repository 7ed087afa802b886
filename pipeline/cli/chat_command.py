"""`stepwell chat`: the command; `pipeline.use` does the work."""

import signal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.answer import INTERRUPTED, Answer, Json
from pipeline.cli.depth_options import Budget, Depth, Effort, asked_depth
from pipeline.cli.streams import say
from pipeline.errors import OK, WrongInput
from pipeline.recipe.hub_reach import reach

if TYPE_CHECKING:
    from pipeline.use.chat_view import ChatView
    from pipeline.use.talk import Reply, Talk

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A model's folder, a run's, a .gguf file, package:NAME or a hub id."
    ),
]


def chat(
    model: Model,
    prompt: Annotated[
        str | None, typer.Option(help="Ask this alone; default: the lines of standard input.")
    ] = None,
    effort: Effort = None,
    depth: Depth = None,
    budget: Budget = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of an answer at most; default: the room.")
    ] = None,
    fold: Annotated[bool, typer.Option("--fold", help="Leave the reasoning out.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that MODEL brings along.")
    ] = False,
    as_json: Json = False,
) -> Answer:
    """Talk to a model: Ctrl-C ends an answer, Ctrl-D the chat. A line is a question; of a run, its
    exported or last model answers."""
    from pipeline.use.model_place import model_place

    for number in (signal.SIGTERM, signal.SIGHUP):  # they end a chat; Ctrl-C alone ends an answer
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    choice = asked_depth(effort, depth, budget)
    place = model_place(model)
    if place.folder is None and not place.is_gguf and (line := reach()) is not None:
        say(line)
    from pipeline.use.chat_view import ChatView
    from pipeline.use.spoken_model import spoken_model
    from pipeline.use.talk import Talk

    view = ChatView(fold=fold, quiet=as_json)
    spoken = spoken_model(place, own_code=trust_remote_code)
    talk = Talk.begin(spoken, choice, max_tokens=max_tokens)
    replies = _conversation(talk, view, prompt)
    interrupted = any(reply.stop == "interrupted" for reply in replies) and not view.in_terminal
    return Answer(
        document=_document(talk, replies),
        show=lambda: None,
        code=INTERRUPTED if interrupted else OK,
    )


def _conversation(talk: "Talk", view: "ChatView", prompt: str | None) -> list["Reply"]:
    """The replies to one prompt, or to all that is asked.

    Raises what keeps a lone prompt from its answer; in a chat it is said, and the chat goes on.
    """
    from pipeline.use.chat_view import NEW

    if prompt is not None:
        reply = talk.ask(prompt, tell=view.hear)
        view.end(reply)
        return [reply]
    view.begin(talk)
    replies = []
    for question in view.questions():
        if question.strip() == NEW:
            talk.turns.clear()
            continue
        try:
            replies.append(talk.ask(question, tell=view.hear))
        except WrongInput as error:
            if view.quiet:
                raise
            view.refuse(error)
            continue
        view.end(replies[-1])
        if replies[-1].stop == "interrupted" and not view.in_terminal:
            break
    return replies


def _document(talk: "Talk", replies: list["Reply"]) -> dict[str, Any]:
    return {
        "model": talk.spoken.place.words,
        "asked": talk.decided_by,
        "replies": [reply.document() for reply in replies],
    }
