import json

import pytest
import torch
from safetensors.torch import save_file

from onesearch.quantize.codebooks import load_codebook
from onesearch.types import UserError


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"class": "Tokenizer9", "options": json.dumps({"dim": 2})}]
)
def test_a_foreign_file_is_refused(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.eye(2)}, path, metadata)
    with pytest.raises(UserError, match=r"model.safetensors holds no codebook that this version knows"):
        load_codebook(path)
