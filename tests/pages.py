"""The documentation as data: its pages, their code blocks, links, and the names that they use."""

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

HISTORY = "CHANGELOG.md"
"""The page that may name what is no longer there."""

RUN_FOLDERS = ("runs", "inputs", "work", "journal", "metrics", "logs", "parts")
"""First parts of paths inside a run folder, as `pipeline.run` has them."""

SUFFIXES = (
    "py",
    "md",
    "yaml",
    "toml",
    "json",
    "jsonl",
    "html",
    "png",
    "parquet",
    "safetensors",
    "log",
)
SAVED_AS = {"python": "py", "yaml": "yaml", "json": "jsonl?"}
"""Suffix of the file that a block of a language is saved as."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of code."""

    language: str
    text: str
    line: int  # of the page, from 1
    file: str | None  # what the page says to save it as: named before it, or in its first line


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of Markdown."""

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text()

    @property
    def blocks(self) -> list[Block]:
        """Its fenced blocks, in order."""
        return list(_blocks(self.text))

    @property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return re.sub(r"^ *```.*?^ *```$", "", self.text, flags=re.DOTALL | re.MULTILINE)

    @property
    def spans(self) -> list[str]:
        """What stands in backticks in the prose; a table's escaped bars are plain ones."""
        return [
            span.replace("\\|", "|").replace("\n", " ")
            for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", self.prose)
        ]

    @property
    def links(self) -> list[str]:
        """Targets of its links and pictures."""
        return re.findall(r"\]\(([^)\s]+)\)", self.prose)

    @property
    def anchors(self) -> set[str]:
        """What a link may name after `#`: its headings, as GitHub writes them."""
        titles = re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    @property
    def files(self) -> dict[str, str]:
        """Files that the page says to save, by name."""
        return {block.file: block.text for block in self.blocks if block.file is not None}

    def block(self, language: str, having: str) -> str:
        """The page's only block in that language that has a text."""
        (text,) = (b.text for b in self.blocks if b.language == language and having in b.text)
        return text

    def save_files(self, folder: Path) -> None:
        """Do what the page says: save its files, in a checkout's folder with its data."""
        for name, text in self.files.items():
            (folder / name).write_text(text)
        (folder / "data").symlink_to(ROOT / "data")


def pages() -> list[Page]:
    """Every page of the project."""
    return [Page(path=ROOT / name) for name in tracked_files() if name.endswith(".md")]


@cache
def tracked_files() -> tuple[str, ...]:
    """Paths of the project's files: what git tracks, or all of an unpacked archive."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.splitlines() or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*")]
    others = (".venv/", ".git/", "runs/")
    ours = (name for name in dict.fromkeys(names) if not name.startswith(others))
    return tuple(name for name in ours if (ROOT / name).is_file())


def missing_names(page: Page) -> list[str]:
    """Files, folders and modules that the page names in backticks and that do not exist."""
    return [span for span in page.spans if not _is_there(span, page)]


def has_name(reference: str) -> bool:
    """Whether `package.module.name` or `package.module:name` is defined here; imports nothing."""
    parts = re.split(r"[.:]", reference.removesuffix("()"))
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        file = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place
        if file.suffix == ".py" or file.is_dir():
            return _defines(file if file.is_file() else file / "__init__.py", parts[count:])
    return False


def _is_there(span: str, page: Page) -> bool:
    if re.search(r"\.\.\.|\b[A-Z]+\b(?!\.md)", span):
        return True  # a pattern, or a place for a name of the reader's own
    if re.fullmatch(r"(pipeline|rewards|tests)(\.\w+)+(:\w+)?(\(\))?", span):
        return span.rpartition(".")[2] in SUFFIXES or has_name(span)
    name = span.partition("::")[0].removesuffix("/")
    if not re.fullmatch(r"[\w.@*/-]+", name) or name.startswith(("/", "-", "*")):
        return True
    first, _, rest = name.partition("/")
    if not rest:
        return not _is_file_name(name) or _is_known_file(name, page)
    roots = (ROOT, page.path.parent, ROOT / "pipeline")
    if not _is_file_name(name) and not any((root / first).exists() for root in roots):
        return True  # no path of ours, such as an organisation's model
    return first in RUN_FOLDERS or any(any(root.glob(name)) for root in roots)


def _is_file_name(name: str) -> bool:
    return name.rpartition(".")[2] in SUFFIXES and not name.startswith(".")


def _is_known_file(name: str, page: Page) -> bool:
    """Of the project, of this page's reader or blocks, or one that the code writes."""
    known = {Path(file).name for file in tracked_files()}
    known |= {word for block in page.blocks for word in re.findall(r"[\w-]+\.\w+", block.text)}
    known |= page.files.keys() | Page(path=ROOT / "README.md").files.keys()
    return name in known or f'"{name}"' in _source() or f"/{name}" in _source()


@cache
def _source() -> str:
    folders = ("pipeline/", "rewards/", ".ci/")
    names = [n for n in tracked_files() if n.startswith(folders) and n.endswith(".py")]
    return "\n".join((ROOT / name).read_text() for name in names)


@cache
def _defined(file: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body if file.is_file() else ():
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return frozenset(names)


def _defines(file: Path, names: list[str]) -> bool:
    return not names or names[0] in _defined(file)


def _blocks(text: str) -> Iterator[Block]:
    lines = text.splitlines()
    paragraph, ended = "", True  # the last one above, and whether it is over
    index = 0
    while index < len(lines):
        fence = re.fullmatch(r"( *)```(\w*).*", lines[index])
        if fence is None:
            line = lines[index].strip()
            if line:
                paragraph = line if ended else f"{paragraph} {line}"
            ended = not line
            index += 1
            continue
        indent, language = fence.groups()
        end = lines.index(f"{indent}```", index + 1)
        body = "".join(f"{line.removeprefix(indent)}\n" for line in lines[index + 1 : end])
        file = _file_of(language, paragraph, body)
        yield Block(language=language, text=body, line=index + 1, file=file)
        paragraph, ended = "", True
        index = end + 1


def _file_of(language: str, paragraph: str, body: str) -> str | None:
    suffix = SAVED_AS.get(language)
    if suffix is None:
        return None
    first = re.match(rf"# ([\w-]+\.{suffix})\n", body)
    named = re.findall(rf"`([\w-]+\.{suffix})`", paragraph)
    return first[1] if first else (named[-1] if named else None)
