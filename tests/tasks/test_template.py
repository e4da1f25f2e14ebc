"""Words behind the markers: every task and every view has them, they are never cut anew, and a fault is named."""

import random
from pathlib import Path

import pytest
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from onesearch.bpe_dropout import draw_segmentation, set_bpe_dropout
from onesearch.models.text_tokenizer import train_tokenizer
from onesearch.tasks import align, cooccur, personalize
from onesearch.tasks.prompt import ASKS, MARKERS, SECTIONS
from onesearch.tasks.task import Task
from onesearch.tasks.template import TEMPLATES, Template
from onesearch.types import UserError

KNOWN = {
    "recent_queries": ("rug", "boots"),
    "recent_clicks": (0, 1),
    "long_clicks": (2, 0, 1),
    "cold_start": (2, 0),
    "profile": "F Zhejiang",
}
EVERYTHING = {"popular_for_all": True, "num_popular": 1, "num_trending": 1, "relevant": lambda _q, items, _k: items[:1]}


def worded(**changed):
    """A template whose words name their place: 'ask QueryToSid', 'head query'."""
    asks = {task: f"ask {task}" for task in ASKS}
    return Template(asks, {name: f"head {name}" for name in SECTIONS} | changed)


def test_without_words_there_are_markers_alone(writer, make_search):
    """Written by hand, token by token: what today's generators were trained on."""
    assert Template.load("markers") == Template()
    marker = writer.vocabulary.marker
    assert writer.about("SidToItem", [7]).tokens == [marker("<to_title>"), marker("<sid>"), 7, writer.end]
    words, sid = writer.text("red boots"), writer.sid([2, 2, 0, 0, 0])
    assert writer.search(make_search()).tokens == [marker("<to_item>"), marker("<query>"), *words, *sid, writer.end]


def test_words_stand_behind_the_marker_of_each_part(make_writer, make_memory, make_search, read):
    """Their order is that of the views; the two queries are parted."""
    memory = make_memory(similar=(0,), trending=(1,))
    shown = read(make_writer(memory=memory, template=worded(), **EVERYTHING).search(make_search(**KNOWN)).tokens)
    words = [
        "<to_item> ask SearchToItem <query> head query red boots head query_sid 2.2.0.0.0",
        "<popular> head popular 3.0.1.1.1",
        "<similar> head similar 0.1.2.0.1",
        "<trending> head trending 1.1.0.2.0",
        "<queries> head queries rug 3.2.1.2.1 head next_query boots 0.0.0.0.0",
        "<clicks> head clicks 0.1.2.0.1 1.1.0.2.0",
        "<relevant> head relevant 3.0.1.1.1",
        "<user> head user",
        "<history> head history <slot> <slot> <slot>",
        "<profile> head profile F Zhejiang </s>",
    ]
    # A tokenizer that writes a space before each piece reads "red boots head query_sid" as they stand here.
    at = [shown.index(part) for part in words]
    assert at == sorted(at)
    assert shown.startswith(words[0])
    assert shown.endswith(words[-1])


def test_every_task_has_an_ask_of_its_own(corpus, make_writer, read):
    """All tasks there are, SearchToItem's also for TitleToItem; no text of the template is left over."""
    writer = make_writer(template=worded())
    tasks = {
        name: found
        for module in (align, cooccur, personalize)
        for name, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, Task) and not found.__abstractmethods__
    }
    asked = {}
    for name, task in tasks.items():
        words = read(task().sample(corpus, writer, 0, random.Random(0)).prompt.tokens).split()
        assert words[1] == "ask"
        asked[name] = words[2]
    assert asked == {name: "SearchToItem" if name == "TitleToItem" else name for name in tasks}
    assert set(asked.values()) == set(ASKS)


def test_folded_items_stand_behind_the_words(make_writer, make_search):
    """The positions of listed items are those of their `<item>` tokens, wherever words moved them."""
    writer = make_writer(template=worded(), popular_for_all=True, fold_sids=True)
    prompt = writer.search(make_search(**KNOWN))
    item = writer.vocabulary.marker("<item>")
    assert [one.position for one in prompt.listed] == [n for n, token in enumerate(prompt.tokens) if token == item]
    assert len(prompt.listed) == 4


def test_bpe_dropout_cuts_what_is_read_and_no_template(make_writer, make_search):
    """With half of the merges dropped the query is cut in many ways, everything else is the same each time."""
    tokenizer = train_tokenizer(["what the shopper asks", "red boots"] * 3, 400)
    template = Template({**Template().asks, "SearchToItem": "what the shopper asks"})
    plain = make_writer(template=template, tokenizer=tokenizer)
    set_bpe_dropout(tokenizer, 0.5)
    writers, prompts = [], set()
    for chance in range(50):
        draw_segmentation(tokenizer, str(chance))
        writers.append(make_writer(template=template, tokenizer=tokenizer))
        prompts.add(tuple(writers[0].search(make_search()).tokens))
    assert {tuple(writer.asks["SearchToItem"]) for writer in writers} == {tuple(plain.asks["SearchToItem"])}
    assert len(prompts) > 5
    head = len(plain.asks["SearchToItem"])
    assert {prompt[:head] for prompt in prompts} == {tuple(plain.asks["SearchToItem"])}


def test_words_do_not_count_as_text_of_the_query(make_writer, make_search):
    """A heading longer than `max_text` stays whole."""
    writer = make_writer(template=worded(query="boots " * 30), max_text=3)
    assert len(writer.search(make_search()).tokens) >= 2 + 30 + 3 + 5 + 1


@pytest.mark.parametrize("name", ["en", "zh"])
def test_the_shipped_languages_have_a_text_for_everything(name):
    """None is empty, no two tasks ask the same, and the Chinese ones are Chinese."""
    template = Template.load(name)
    texts = [*template.asks.values(), *template.sections.values()]
    assert all(texts)
    assert len(set(template.asks.values())) == len(ASKS)
    assert all(text.isascii() for text in texts) == (name == "en")
    assert not any(marker in text for text in texts for marker in MARKERS)


def own(folder: Path, change) -> str:
    """The English template with a change, as a user's own file."""
    content = yaml.safe_load((TEMPLATES / "en.yaml").read_text("utf-8"))
    change(content)
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
    return str(path)


def test_a_template_of_ones_own(tmp_path, make_writer, read):
    path = own(tmp_path, lambda content: content["asks"].update(QueryToSid="  Which?  "))
    template = Template.load(path)
    assert template.asks["QueryToSid"] == "Which?"
    assert template.sections == Template.load("en").sections
    Path(path).unlink()
    assert Template.of({"template": template.plain()}) == template  # a generator keeps the words, not the path
    assert Template.of({}) == Template()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["asks"].pop("SidToItem"), "'asks' has no text for 'SidToItem': add one"),
        (lambda content: content["sections"].update(clicks=True), "'sections' has no text for 'clicks'"),
        (lambda content: content["sections"].update(klick5="x"), "'sections' has a text for 'klick5', which no prompt"),
        (lambda content: content.pop("sections"), "has no part 'sections': copy .*markers.yaml"),
        (lambda content: content.update(asks="none"), "has no part 'asks'"),
    ],
)
def test_a_fault_of_a_template_is_one_sentence(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as refused:
        Template.load(own(tmp_path, change))
    assert "mine.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_template_that_is_not_there_or_no_yaml(tmp_path):
    with pytest.raises(UserError, match=r"no template 'fr': use one of en, markers, zh, or the path of a YAML file"):
        Template.load("fr")
    with pytest.raises(UserError, match=r"no template '.*absent.yaml'"):
        Template.load(str(tmp_path / "absent.yaml"))
    (tmp_path / "broken.yaml").write_text("asks: [", "utf-8")
    with pytest.raises(UserError, match=r"broken.yaml is no YAML that can be read"):
        Template.load(str(tmp_path / "broken.yaml"))


def test_tokenizers_that_know_no_dropout_are_left_as_they_are(make_writer, task_tokenizer):
    """BPE without dropout, and word pieces, which have none to drop."""
    words = Tokenizer(models.WordPiece({"[UNK]": 0, "</s>": 1, "red": 2, "boots": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    pieces = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", pad_token="</s>", unk_token="[UNK]")
    writer = make_writer(template=worded(query="red red boots"), tokenizer=pieces)
    assert writer.heads["query"][1:] == [2, 2, 3]
    make_writer(template=worded(), tokenizer=task_tokenizer)
    assert not task_tokenizer.backend_tokenizer.model.dropout
