"""A model that is not there is said to be so, by its name."""

import pytest
from huggingface_hub import constants

from onesearch.models.pretrained import open_backbone
from onesearch.models.text_encoder import read_transformer
from onesearch.models.text_tokenizer import load_tokenizer
from onesearch.types import UserError


@pytest.mark.parametrize("read", [open_backbone, read_transformer, load_tokenizer])
def test_what_is_not_there_is_refused_by_name(read, monkeypatch, tmp_path):
    """A name that this machine does not hold and no hub can be asked for, no name at all, and a mistyped folder."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("nobody/no-such-model", "not a name", str(tmp_path / "nowhere")):
        with pytest.raises(UserError) as refused:
            read(name)
        said = str(refused.value)
        assert said.startswith(f"'{name}' cannot be read (")
        assert said.endswith("log in with 'hf auth login' if it is private or gated, or give a folder that holds it.")
        assert "\n" not in said


def test_a_folder_without_weights_is_refused(tmp_path):
    """The reason is that of transformers."""
    (tmp_path / "config.json").write_text('{"model_type": "bart"}', "utf-8")
    with pytest.raises(UserError, match=f"^'{tmp_path}' cannot be read \\(.*model.safetensors.*\\): "):
        open_backbone(tmp_path)
