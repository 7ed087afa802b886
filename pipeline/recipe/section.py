"""What every section of a recipe is made of."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Interval = tuple[int, int]


class Strict(BaseModel):
    """Base of every section: unknown keys are errors, values never change after loading.

    The text under a field is its description, in the schema and in the reference of keys.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    removed_keys: ClassVar[Mapping[str, str]] = {}
    """Keys that the section had once, and what holds now."""


def listed(value: list[str] | str) -> list[str]:
    """One or several names, as a list."""
    return [value] if isinstance(value, str) else value


def exactly_one(section: BaseModel, *keys: str) -> None:
    """Raises ValueError unless exactly one of the keys was written."""
    written = [key for key in keys if key in section.model_fields_set]
    if len(written) != 1:
        count = f"found {', '.join(written)}" if written else "found none"
        raise ValueError(f"give exactly one of {', '.join(keys)}; {count}")
