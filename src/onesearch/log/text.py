"""How a query is compared and how an item reads: one normalisation for every part of the system."""

import re
import unicodedata

import pyarrow as pa

_NOT_A_WORD = re.compile(r"[\W_]+")


def normalize_query(text: str) -> str:
    """The key under which equal queries meet: NFKC, casefold, every run of non-word characters is one space.

    >>> normalize_query("  Xbox-360:  ＦＩＦＡ'12 ")
    'xbox 360 fifa 12'
    """
    # Casefolding can leave a decomposed letter, which a second NFKC composes: without it the key of a key may differ.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    # A query of signs alone ("?!") is still a query: it keeps them, so that only blank text has an empty key.
    return _NOT_A_WORD.sub(" ", folded).strip() or " ".join(folded.split())


def item_texts(items: pa.Table) -> list[str]:
    """What encoder and generator read of each item: title, brand, leaf categories, attribute values, price.

    Args:
        items: the canonical items table, [N] rows.
    """
    columns = (items.column(name).to_pylist() for name in ("title", "brand", "category", "attributes", "price"))
    return [_item_text(*row) for row in zip(*columns, strict=True)]


def _item_text(
    title: str | None,
    brand: str | None,
    category: list[str] | None,
    attributes: list[tuple[str, list[str]]] | None,
    price: float | None,
) -> str:
    # The coarse levels are shared by whole departments and tell no items apart; the last two names do.
    parts = [title, brand, *(category or [])[-2:]]
    parts += [value for _, values in attributes or [] for value in values or []]
    told = dict.fromkeys(part.strip() for part in parts if part and part.strip())
    once = {part.casefold(): part for part in reversed(told)}
    kept = [part for part in told if once[part.casefold()] == part]
    return ", ".join(kept + ([f"{price:g}"] if price is not None else []))
