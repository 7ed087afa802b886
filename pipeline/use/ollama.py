"""An Ollama Modelfile for a GGUF file beside it.

Ollama has templates of its own kind. Ours is read off the chat template: what it writes around a
question, an answer and a system message.
"""

from collections.abc import Callable, Mapping, Sequence

from jinja2 import TemplateError

from pipeline.generate.chat import Chat

SYSTEM, QUESTION, ANSWER = "stepwellsystem", "stepwellquestion", "stepwellanswer"

Render = Callable[..., str]


def modelfile(chat: Chat, *, file: str, positions: int) -> str:
    """The text of a Modelfile: the file, the template, the texts that end an answer, the room."""
    lines = [f"FROM ./{file}", f"PARAMETER num_ctx {positions}"]
    tokenizer = chat.tokenizer
    lines += [f"PARAMETER stop {_quoted(tokenizer.decode([end]))}" for end in chat.ends]
    template = ollama_template(chat)
    if template is not None:
        lines.insert(1, f'TEMPLATE """{template}"""')
    return "\n".join(lines) + "\n"


def ollama_template(chat: Chat) -> str | None:
    """The chat template of one turn as Ollama writes them; None without a chat template.

    A start of sequence that the tokenizer adds by itself is left out, as llama.cpp adds it too.
    """
    tokenizer = chat.tokenizer
    if tokenizer.chat_template is None:
        return None

    def render(messages: Sequence[Mapping[str, str]], *, asked: bool) -> str:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=asked, tokenize=False)
        return text.removeprefix(tokenizer.bos_token or "") if chat.begins else text

    user = {"role": "user", "content": QUESTION}
    before, _, after = render([user], asked=True).partition(QUESTION)
    answered = render([user, {"role": "assistant", "content": ANSWER}], asked=False)
    end = answered.partition(ANSWER)[2]
    system = _system(render, user, before)
    return f"{system}{{{{ .Prompt }}}}{after}{{{{ .Response }}}}{end}"


def _system(render: Render, user: Mapping[str, str], before: str) -> str:
    """What stands before a question, with a system message where there is one; of a template that
    takes none, or writes one of its own, what it writes without."""
    try:
        text = render([{"role": "system", "content": SYSTEM}, user], asked=True)
    except TemplateError:
        return before
    start, mark, rest = text.partition(SYSTEM)
    between = rest.partition(QUESTION)[0]
    if not mark:
        return before
    return (
        f"{{{{ if .System }}}}{start}{{{{ .System }}}}{between}{{{{ else }}}}{before}{{{{ end }}}}"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
