"""The chat in a terminal or a pipe: questions from standard input, answers to standard output.

In a terminal the reasoning is dim, or folded into a count of its tokens; what an answer took stands
under it. In a pipe standard output has the answers alone, with their reasoning in its tags unless
it is folded; the rest goes to standard error.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from pipeline.errors import StepwellError, WrongInput
from pipeline.generate.reasoning import CLOSE, OPEN, Parts
from pipeline.use.talk import Reply, Talk
from pipeline.watch.rollout_log import harmless
from pipeline.watch.terminal import StandardError, StandardOutput

with suppress(ImportError):  # a Python without it reads lines all the same, without a history
    import readline  # noqa: F401

NEW, PROMPT = "/new", "> "
HELP = f"Ctrl-C ends an answer, Ctrl-D the chat; {NEW} begins another conversation"


@dataclass
class ChatView:
    """Where a chat is read and shown."""

    fold: bool
    quiet: bool = False  # a document follows: nothing is shown
    out: Console = field(default_factory=StandardOutput)
    notes: Console = field(default_factory=StandardError)
    shown: Parts = field(default_factory=Parts)

    @property
    def in_terminal(self) -> bool:
        """Whether somebody reads and types."""
        return self.out.is_terminal and sys.stdin.isatty() and not self.quiet

    def questions(self) -> Iterator[str]:
        """Lines of standard input that say something, until its end."""
        while True:
            try:
                line = input(PROMPT) if self.in_terminal else next(sys.stdin).rstrip("\n")
            except (EOFError, StopIteration):
                if self.in_terminal:
                    self.out.print()
                return
            except UnicodeDecodeError as error:
                raise WrongInput(f"standard input is no UTF-8 text: {error.reason}") from None
            except KeyboardInterrupt:
                if not self.in_terminal:
                    raise
                self.out.print(f"\n{HELP}", style="dim")
                continue
            if line.strip():
                yield line

    def begin(self, talk: Talk) -> None:
        """Say who answers, in a terminal."""
        if not self.in_terminal:
            return
        depth = f", {talk.decided_by}" if talk.decided_by else ""
        self.out.print(f"{talk.spoken.place.words}{depth}", style="bold")
        self.out.print(HELP, style="dim")

    def hear(self, parts: Parts) -> None:
        """Show what is new of an answer."""
        if self.quiet:
            return
        before, self.shown = self.shown, parts
        reasoning = parts.reasoning[len(before.reasoning) :]
        if not self.fold and reasoning:
            self._reason(reasoning, first=not before.reasoning)
        answer = parts.answer[len(before.answer) :]
        if answer and not before.answer:
            answer = self._closing(parts) + answer.lstrip("\n")
        self._write(answer)

    def end(self, reply: Reply) -> None:
        """What an answer took."""
        if self.quiet:
            return
        self.hear(Parts(reasoning=reply.reasoning, answer=reply.answer))
        self.shown = Parts()
        self._write("\n")
        self._note(said_of(reply))

    def refuse(self, error: StepwellError) -> None:
        """A question that got no answer; the chat goes on."""
        self._note(str(error))

    def _reason(self, text: str, *, first: bool) -> None:
        if self.out.is_terminal:
            self._write(text, style="dim")
        else:
            self._write((OPEN if first else "") + text)

    def _closing(self, parts: Parts) -> str:
        """What stands between reasoning and answer."""
        if not parts.reasoning or (self.fold and not self.out.is_terminal):
            return ""
        if not self.out.is_terminal:
            return CLOSE
        if self.fold:
            self._write(f"({len(parts.reasoning):,} characters of reasoning)", style="dim")
        return "\n"

    def _write(self, text: str, *, style: str = "") -> None:
        if text:
            shown = harmless(text) if self.out.is_terminal else text
            self.out.print(Text(shown, style=style), end="", soft_wrap=True)
            self.out.file.flush()

    def _note(self, text: str) -> None:
        (self.out if self.in_terminal else self.notes).print(Text(text, style="dim"))


def said_of(reply: Reply) -> str:
    """What an answer took, in a line."""
    words = [f"{reply.tokens:,} tokens", f"{reply.seconds:.1f} s"]
    if reply.mean_depth is not None:
        words.insert(1, f"depth {reply.mean_depth:.2f} of {reply.full_depth} on average")
    if reply.stop != "eos":
        words.append("cut off" if reply.stop == "length" else "interrupted")
    return ", ".join(words)
