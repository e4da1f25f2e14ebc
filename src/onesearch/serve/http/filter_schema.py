"""Filters as they go over the wire, and what can be filtered by."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from onesearch.serve.filtering import Filter
from onesearch.serve.http.fields import ItemId, Name, Price, Strict


class FilterParams(Strict):
    """A filter in a URL, where everything is text."""

    category: list[Name] = Field(
        default=[],
        description="Names on an item's path, or paths from its root on; `> Women` is the root alone.",
        examples=[["Shoes > Women"]],
    )
    brand: list[Name] = Field(default=[], description="Who makes it.")
    seller: list[Name] = Field(default=[], description="Who sells it.")
    price_min: Annotated[Price | None, Field(description="What it costs at least.")] = None
    price_max: Annotated[Price | None, Field(description="What it costs at most; what has no price is in no band.")] = (
        None
    )
    in_stock: Annotated[bool, Field(description="Leave out what is known to be sold out.")] = True
    allow: Annotated[
        list[ItemId] | None, Field(description="The only items that may be shown; unknown ones are passed over.")
    ] = None
    block: list[ItemId] = Field(default=[], description="Items that must not be shown; unknown ones are passed over.")

    def filter(self) -> Filter:
        """As the engine has it.

        Raises:
            UserError: no price lies between the two.
        """
        return Filter(**{name: getattr(self, name) for name in FilterParams.model_fields})


class SearchFilter(FilterParams):
    """What an item must be to be shown: values of one field are alternatives, fields must all hold."""

    model_config = ConfigDict(strict=True)  # JSON has types


class Choice(BaseModel):
    """A name that can be filtered by."""

    value: Annotated[str, Field(description="As a filter takes it.", examples=["Shoes > Women"])]
    path: Annotated[list[str], Field(description="Of a category, its names, coarse to fine.")]
    num_items: Annotated[int, Field(description="That a filter by it lets pass, sold out or not.")]


class Choices(BaseModel):
    """What can be filtered by: of each field the names of the most items, in alphabetical order."""

    category: list[Choice]
    brand: list[Choice]
    seller: list[Choice]
    price_min: Annotated[float | None, Field(description="Of the cheapest item; none where no price is known.")]
    price_max: float | None
    num_sold_out: Annotated[int, Field(description="Items that are known to be sold out.")]
