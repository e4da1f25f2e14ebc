"""`onesearch samples` on the tiny run: each task once, with views and words as asked or as a stage was trained."""

import pytest

from handful import refusal
from onesearch.main import main
from onesearch.tasks.show import STAGES

TASKS = [type(task).__name__ for tasks in STAGES.values() for task in tasks]


def printed(capsys, *arguments):
    """The blocks of a call, by their first line."""
    capsys.readouterr()
    main(["samples", *map(str, arguments)])
    blocks = capsys.readouterr().out.strip().split("\n\n")
    return {block.split("\n")[0]: block for block in blocks}


def test_each_task_is_printed_once(tiny_run, capsys):
    """The search is one of the shop's most active user, so that its views are filled."""
    blocks = printed(capsys, "--run", tiny_run)
    assert [name for name in blocks if not name.startswith("──")] == TASKS
    for name in ("QueryToSid", "ItemToSid"):
        assert " <a_" in blocks[name].split("answer")[1]
    for part in ("<to_item> <query> ", "<queries>", "<clicks> <a_", "<user> <a_", "clicked items,"):
        assert part in blocks["SearchToItem"]


def test_views_and_words_are_those_asked_for(tiny_run, capsys):
    blocks = printed(capsys, "--run", tiny_run, "--template", "zh", "--views.num_recent_clicks", 0)
    assert "<to_category> 请写出该商品所属的类目。 <title> 商品：" in blocks["ItemToCategory"]
    assert "<clicks>" not in blocks["SearchToItem"]


def test_choices_of_behaviour_are_made_on_the_command_line(tiny_run, capsys):
    """By centroids another user is read than by codes; a choice that there is not is refused."""
    plain = printed(capsys, "--run", tiny_run)["SearchToItem"]
    chosen = ("--views.relevant_by", "category", "--views.user_id_by", "centroids", "--views.cold_start", "sequences")
    other = printed(capsys, "--run", tiny_run, *chosen)["SearchToItem"]
    user = [block.split("<user>")[1].split("<history>")[0] for block in (plain, other)]
    assert user[0] != user[1]
    assert "cold_start" in refusal(capsys, "samples", "--run", str(tiny_run), "--views.cold_start", "none")


def test_a_stage_shows_what_it_was_trained_on(tiny_run, capsys):
    """Its own views stand before those of the command line."""
    blocks = printed(capsys, "--run", tiny_run, "--stage", "sft_personalize", "--views.user_id", "false")
    assert "<user>" in blocks["SearchToItem"]


def test_another_seed_shows_other_examples(tiny_run, capsys):
    assert printed(capsys, "--run", tiny_run) != printed(capsys, "--run", tiny_run, "--seed", 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--template", "fr"), "no template 'fr'"), (("--stage", "dpo_logged"), "dpo_logged holds no finished artefact")],
)
def test_what_is_not_there_is_named(tiny_run, capsys, options, message):
    assert message in refusal(capsys, "samples", "--run", str(tiny_run), *options)
