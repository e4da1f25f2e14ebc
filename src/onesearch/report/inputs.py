"""What a run has left to report on: JSON files that may be absent."""

import json
from pathlib import Path
from typing import Any

from onesearch.types import UserError


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where there is no such file.

    Raises:
        UserError: the file is no JSON.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}): delete it and run again what writes it.") from error
