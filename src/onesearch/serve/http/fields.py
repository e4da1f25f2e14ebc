"""Kinds of fields that several requests have."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

ItemId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
UserId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _whole(value: object) -> object:
    """JSON knows one kind of number: 10.0 is 10 there."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[int, Field(ge=1, strict=True), BeforeValidator(_whole)]


class Strict(BaseModel):
    """A request: a field that does not exist is a mistake, not something to pass over."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)
