"""A folder on its way to the Hugging Face hub, through its own library."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from httpx import HTTPError
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from pipeline.errors import RunFailed, WrongInput

RepoType = Literal["model", "dataset"]


class PushRefused(WrongInput):
    """A name that is none of the hub's."""


class PushFailed(RunFailed):
    """The hub did not take the folder."""


@dataclass(frozen=True, kw_only=True)
class Push:
    """What goes where."""

    folder: Path
    repo: str
    kind: RepoType

    @classmethod
    def to(cls, repo: str, folder: Path, *, kind: RepoType) -> "Push":
        """Raises PushRefused."""
        try:
            validate_repo_id(repo)
        except HFValidationError as error:
            raise PushRefused(f"--push {repo}: {str(error).splitlines()[0]}") from error
        return cls(folder=folder, repo=repo, kind=kind)

    def files(self) -> Iterator[tuple[str, int]]:
        """Names and bytes."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                yield str(path.relative_to(self.folder)), path.stat().st_size

    def lines(self) -> Iterator[str]:
        """What a dry run prints."""
        yield f"{self.kind} {self.repo}:"
        for name, size in self.files():
            yield f"  {name}  {size:,} bytes"

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        files = [{"name": name, "bytes": size} for name, size in self.files()]
        return {"repo": self.repo, "kind": self.kind, "files": files}

    def run(self) -> str:
        """Make the repository where there is none, private, and upload; its address.

        Raises PushFailed.
        """
        api = HfApi()
        try:
            api.create_repo(self.repo, repo_type=self.kind, private=True, exist_ok=True)
            done = api.upload_folder(
                folder_path=self.folder, repo_id=self.repo, repo_type=self.kind
            )
        except (HTTPError, HfHubHTTPError, OSError) as error:  # a token, a network, a quota
            reason = str(error).strip().splitlines()[0]
            raise PushFailed(
                f"--push {self.repo}: the hub did not take it ({reason}): log in with `hf auth "
                "login`, or look at what would go with --dry-run"
            ) from error
        return str(done.commit_url)
