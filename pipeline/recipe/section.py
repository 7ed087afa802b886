"""What every section of a recipe is made of."""

from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Interval = tuple[int, int]


class Strict(BaseModel):
    """Base of every section: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def listed(value: list[str] | str) -> list[str]:
    """One or several names, as a list."""
    return [value] if isinstance(value, str) else value


def exactly_one(section: BaseModel, *keys: str) -> None:
    given = [key for key in keys if key in section.model_fields_set]
    if len(given) != 1:
        found = f"found {', '.join(given)}" if given else "found none"
        raise ValueError(f"give exactly one of {', '.join(keys)}; {found}")
