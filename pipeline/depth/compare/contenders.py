"""The models that the comparison's methods run on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.depth.compare.methods import Model
from pipeline.depth.labels.warm_start_part import Heads


@dataclass(frozen=True, kw_only=True)
class Contenders:
    """What parts 4 to 6 made."""

    policies: Sequence[Path]  # one a seed; the first is exported, or goes on to the joint phase
    heads: Heads
    joint: Path | None = None  # the first policy after the joint phase

    @property
    def exported(self) -> Path:
        """What is calibrated and handed on."""
        return self.joint or self.policies[0]

    def model(self, name: Model) -> Path:
        """The folder of a method's model.

        Raises ValueError for one that this stage did not make.
        """
        folders = {
            "policy": self.policies[0],
            "joint": self.joint,
            "labels": self.heads.labels,
            "own_labels": self.heads.own_labels,
            "warm_start": self.heads.warm,
            "right": self.heads.right,
        }
        folder = folders[name]
        if folder is None:
            raise ValueError(f"this stage made no model {name!r}")
        return folder
