"""`onesearch fit` of the encoder, on a handful of items that it can learn by heart."""

import torch

from handful import CONFIGS, THINGS, facts, logged, refusal
from onesearch.artifacts import verify
from onesearch.log.prepared import Log
from onesearch.log.text import item_texts
from onesearch.models.text_encoder import TextEncoder


def test_learns_which_items_a_query_leads_to(encoder_run):
    """Each thing is asked for and comes in four colours: the four items nearest to "kettle" are the four kettles."""
    log, encoder = Log.open(encoder_run / "log"), TextEncoder.load(encoder_run / "encoder")
    items, queries = encoder.embed(item_texts(log.items)), encoder.embed(THINGS)
    assert torch.allclose(items.norm(dim=1), torch.ones(16), atol=1e-5)
    nearest = (queries @ items.T).topk(4).indices.tolist()
    kinds = [[log.items["category"][row].as_py()[-1] for row in rows] for rows in nearest]
    assert kinds == [[thing] * 4 for thing in THINGS]


def test_the_loss_falls_and_is_logged_by_part(encoder_run):
    """56 clicks and 32 orders (even days) before the test are 88 pairs, 11 batches an epoch; the loss is halved."""
    loss = logged(encoder_run, "encoder", "train/loss")
    assert len(loss) == facts(encoder_run, "encoder")["num_steps"]
    assert len(loss) % 11 == 0
    assert sum(loss[-11:]) < 0.5 * sum(loss[:11])
    for part in ("q2i", "rank"):
        assert logged(encoder_run, "encoder", f"train/{part}")
    assert logged(encoder_run, "encoder", "val/in_batch_top1")


def test_hands_on_an_artefact_of_this_log(encoder_run):
    """It knows its log and its width."""
    manifest = verify(encoder_run / "encoder", "encoder", [encoder_run / "log"])
    assert manifest.facts["dim"] == 32


def test_without_a_log_it_says_what_to_run(tmp_path, capsys):
    sentence = refusal(capsys, "fit", "-c", str(CONFIGS / "encoder.yaml"), "--run", str(tmp_path / "nowhere"))
    assert sentence.startswith(f"{tmp_path}/nowhere/log holds no finished artefact")
