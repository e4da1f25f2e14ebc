"""Options that are stated to no effect."""

import pytest

from handful import CONFIGS, write
from onesearch.planning.stated import dead_keys

STAGE = "onesearch.stages.sft.SftStage"
PARSED = {
    "model": {"class_path": STAGE, "init_args": {"name": "sft_cooccur", "init_from": "sft_align", "sid_init": "fresh"}},
    "data": {
        "class_path": "onesearch.data.sft.SftData",
        "init_args": {"vocab_size": 9, "tokenizer": None, "views": {}},
    },
    "trainer": {"max_epochs": 3},
}


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"trainer": {"max_epochs": 3}}, []),
        (
            {"model": {"init_args": {"sid_init": "fresh"}}},
            ["'model.init_args.sid_init' is stated, but nothing reads it"],
        ),
        ({"data": {"init_args": {"vocab_size": 9}}}, ["'data.init_args.vocab_size' is stated, but nothing reads it"]),
        (
            {"model": {"init_args": {"views": {"max_text": 3}}}},
            ["'model.init_args.views' is stated, but taken from 'data.init_args.views'"],
        ),
        (
            {"model": {"init_args": {"layers": 3, "width": 5}}},
            ["'model.init_args' states layers, width, which the class"],
        ),
    ],
)
def test_an_option_that_nothing_reads_is_named(stated, said, tmp_path):
    found = [*dead_keys([write(tmp_path / "stage.yaml", stated)], PARSED)]
    assert len(found) == len(said)
    assert all(sentence.startswith(start) for sentence, start in zip(found, said, strict=True))


def test_an_overlay_that_changes_nothing_is_named(tmp_path):
    """One that repeats what is there; not one that changes a value."""
    first = write(tmp_path / "stage.yaml", {"trainer": {"max_epochs": 3, "precision": "32-true"}})
    same, other = (write(tmp_path / f"{epochs}.yaml", {"trainer": {"max_epochs": epochs}}) for epochs in (3, 4))
    parsed = {"trainer": {"max_epochs": 3, "precision": "32-true"}}
    assert [*dead_keys([first, same], parsed)] == [
        f"{same} changes nothing of what {first} says: leave it out, or correct it."
    ]
    assert [*dead_keys([first, other], parsed)] == []


@pytest.mark.parametrize("stage", ["encoder", "sft_align", "sft_cooccur", "sft_personalize", "quantizer", "reward"])
def test_the_stages_own_files_state_nothing_in_vain(stage, monkeypatch, tmp_path):
    """By the real parser."""
    from onesearch.planning import plan as planning

    seen = []
    monkeypatch.setattr(planning, "plan_of", lambda *arguments: seen.append(arguments[-1]) or {"notes": []})
    monkeypatch.setattr(planning, "show", lambda _: None)
    file = CONFIGS / f"{stage}.yaml"
    planning.plan(["-c", str(file), "--run", str(tmp_path)])
    assert [*dead_keys([file], seen[0])] == []
