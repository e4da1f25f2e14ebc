"""`onesearch fit` with a template: training, validation, serving and preference lists write the same prompts."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from handful import CONFIGS, launch, overlay, refusal
from onesearch.artifacts import writing
from onesearch.data.preferences import PreferenceData
from onesearch.data.sft import SftData
from onesearch.serve.engine import SearchEngine
from onesearch.stages.dpo import LoggedDpo
from onesearch.stages.sft import SftStage
from onesearch.tasks.personalize import SearchToItem
from onesearch.tasks.prompt import Views
from onesearch.tasks.template import TEMPLATES, Template

VIEWS = Views(fold_sids=True, num_popular=3, popular_for_all=True)


@pytest.fixture
def run(tiny_run_copy, tmp_path):
    """One step of `sft_personalize` with words of one's own, whose file is gone when the generator answers."""
    path = tmp_path / "mine.yaml"
    bare = (TEMPLATES / "markers.yaml").read_text("utf-8")  # the tiny model reads 256 tokens; English would be many
    asked = bare.replace('SearchToItem: ""', "SearchToItem: which item")
    path.write_text(asked.replace('  query: ""', "  query: somebody asks"), "utf-8")
    data = {"vocab_size": 400, "template": str(path), "views": {"num_popular": 3, "popular_for_all": True}}
    config = overlay(1, {"init_from": "sft_align"}, data, limit_train_batches=1, limit_val_batches=1)
    launch(tiny_run_copy, "fit", "sft_personalize", config)
    path.rename(tmp_path / "moved.yaml")
    return tiny_run_copy


def test_the_same_prompt_wherever_it_is_written(run, tmp_path, tiny_log):
    """A search of the test period, token for token, in all five places; the words are in it."""
    contexts = tiny_log.contexts("test")[:20]
    data = SftData(run, [SearchToItem()], views=VIEWS, template=str(tmp_path / "moved.yaml"))
    data.setup("fit")
    trained = [data.writer().search(context) for context in contexts]
    serving = SearchEngine.open(run)
    assert [serving.prompt(context) for context in contexts] == trained
    writer = serving.writer
    for prompt in trained:
        assert prompt.tokens[: len(writer.asks["SearchToItem"])] == writer.asks["SearchToItem"]
    assert writer.tokenizer.decode(writer.asks["SearchToItem"][1:10]).strip().startswith("which item")
    assert writer.tokenizer.decode(writer.heads["query"][1:]).strip() == "somebody asks"

    validating = SftStage(run, "next", "search", "sft_personalize", views=VIEWS, template=str(tmp_path / "moved.yaml"))
    validating.configure_model()
    assert [validating.engine.prompt(context) for context in contexts] == trained

    preferring = LoggedDpo(run, "dpo", "sft_personalize")
    preferring.configure_model()
    assert [preferring.engine.prompt(context) for context in contexts] == trained
    assert [written_for_lists(run).search(context) for context in contexts] == trained


def written_for_lists(run):
    """The writer of the DPO data, over no list at all."""
    names = ("search_id", "chosen", "rejected", "reference_chosen", "reference_rejected", "weights")
    parents = [run / "log", run / "quantizer", run / "sft_personalize"]
    with writing(run / "dpo_lists", "preferences", parents) as folder:
        pq.write_table(pa.table({name: pa.array([], pa.string()) for name in names}), folder / "lists.parquet")
    data = PreferenceData(run, "dpo", "sft_personalize")
    data.setup("fit")
    return data.writer


def test_the_words_are_kept_with_the_generator(run, tmp_path):
    settings = json.loads((run / "sft_personalize" / "generator.json").read_text("utf-8"))["settings"]
    assert Template.of(settings) == Template.load(str(tmp_path / "moved.yaml"))


def test_a_template_with_a_fault_is_refused_in_one_sentence(tiny_run_copy, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text((TEMPLATES / "zh.yaml").read_text("utf-8").replace("  SidToItem:", "  SidToItems:"), "utf-8")
    fit = ("fit", "-c", str(CONFIGS / "sft_align.yaml"), "--run", str(tiny_run_copy))
    sentence = refusal(capsys, *fit, "--data.init_args.template", str(path))
    assert "mine.yaml: 'asks' has no text for 'SidToItem': add one" in sentence
