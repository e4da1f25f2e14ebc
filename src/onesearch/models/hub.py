"""What transformers reads by a hub name or from a folder, and what is said where it cannot."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onesearch.types import UserError


@contextmanager
def reading(name_or_folder: str | Path) -> Iterator[None]:
    """Whatever transformers does not find or may not read ends in one sentence with the name in it.

    Raises:
        UserError: there is no such model, on the hub or here, or it is not open to everybody.
    """
    try:
        yield
    except OSError as error:
        reason = str(error).strip().split("\n")[0].rstrip(".: ")
        raise UserError(
            f"'{name_or_folder}' cannot be read ({reason}): spell it as the Hugging Face hub does, log in with "
            "'hf auth login' if it is private or gated, or give a folder that holds it."
        ) from error
