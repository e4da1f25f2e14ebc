"""The entry: which verb goes where, and what a user's mistake looks like."""

import shutil
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from handful import CONFIGS, copied, refusal, write
from onesearch.artifacts import ArtifactError
from onesearch.main import main
from onesearch.serve.engine import STAGES

QUIET = "import sys; from onesearch.main import main\ntry: main({arguments})\nexcept SystemExit: pass\n"
HEAVY = ("lightning", "transformers", "faiss", "wandb", "matplotlib")


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"]])
def test_help_is_quick(arguments):
    """Nothing heavy is imported to explain the other verbs."""
    code = QUIET.format(arguments=arguments) + f"print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: onesearch" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_without_a_verb_it_lists_them(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "{prepare,simulate,pipeline,compare," in capsys.readouterr().err  # the parser names the first few


def test_an_unknown_verb_is_named(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["find", "kettle"])
    assert stopped.value.code == 2
    assert "'find'" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("verb", [["search", "kettle"], ["compare"]])
def test_a_missing_run_is_named(verb, tmp_path, capsys):
    sentence = refusal(capsys, *verb, "--run", str(tmp_path / "gone"))
    assert sentence.startswith(f"{tmp_path}/gone/log holds no finished artefact")
    assert "run the stage that writes it" in sentence


def test_a_damaged_file_is_named(whole_run, tmp_path, capsys):
    """One byte more than was written is one file to name."""
    run = copied(whole_run, tmp_path / "run", "quantizer", "dpo_logged")
    with (run / "log" / "items.parquet").open("ab") as file:
        file.write(b"x")
    sentence = refusal(capsys, "search", "kettle", "--run", str(run))
    assert sentence.startswith(f"{run}/log/items.parquet was changed or damaged")


def test_a_lost_file_is_named(whole_run, tmp_path, capsys):
    run = copied(whole_run, tmp_path / "run", "quantizer", "dpo_logged")
    (run / "quantizer" / "codebook.safetensors").unlink()
    arguments = ("fit", "-c", str(CONFIGS / "sft_align.yaml"), "--run", str(run), "--trainer.accelerator", "cpu")
    assert refusal(capsys, *arguments).startswith(f"{run}/quantizer/codebook.safetensors is missing")


def test_a_run_without_a_generator_says_what_to_run(whole_run, tmp_path, capsys):
    run = copied(whole_run, tmp_path / "run", "quantizer")
    assert "no trained generator yet" in refusal(capsys, "search", "kettle", "--run", str(run))


def test_an_unknown_stage_is_named(whole_run, capsys):
    """With those that there are."""
    sentence = refusal(capsys, "search", "kettle", "--run", str(whole_run), "--stage", "sft_nope")
    assert sentence.startswith("No stage 'sft_nope'")
    assert all(stage in sentence for stage in STAGES)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("",), "The query '' holds no word"),
        (("  ",), "The query '  ' holds no word"),
        (("kettle", "--k", "0"), "k is 0"),
        (("kettle", "--num_beams", "0"), "num_beams is 0"),
    ],
)
def test_a_search_for_nothing_is_refused(arguments, named, whole_run, capsys):
    assert refusal(capsys, "search", *arguments, "--run", str(whole_run)).startswith(named)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("search", "kettle", "--beans", "3"), "--beans"),
        (("search", "kettle", "--k", "many"), "many"),
        (("fit", "-c", str(CONFIGS / "encoder.yaml"), "--model.init_args.dims", "3"), "dims"),
        (("fit", "-c", str(CONFIGS / "encoder.yaml"), "--trainer.max_epocks", "3"), "--trainer.max_epocks"),
    ],
)
def test_a_misspelt_option_is_one_sentence(arguments, named, capsys):
    """No page of usage, whichever of the two parsers reads the line."""
    assert named in refusal(capsys, *arguments)


def test_help_names_the_verbs_of_the_stages_too(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "{fit,validate,test,predict}" in capsys.readouterr().out


def test_an_encoder_of_another_log_is_refused(whole_run, tmp_path, capsys):
    """The log is prepared again with another split: its encoder is not this log's, and the sentence names both."""
    from handful import fingerprint, shop, write

    run = copied(whole_run, tmp_path / "run")
    config = shop(tmp_path / "files")
    config["split"]["validation_from"] = "2025-03-06"
    main(["prepare", "--config", str(write(tmp_path / "log.yaml", config)), "--run", str(run)])
    shutil.copytree(whole_run / "quantizer", run / "quantizer")
    old, new = fingerprint(whole_run, "log"), fingerprint(run, "log")
    arguments = ("fit", "-c", str(CONFIGS / "sft_align.yaml"), "--run", str(run), "--trainer.accelerator", "cpu")
    sentence = refusal(capsys, *arguments)
    assert f"log {old}" in sentence
    assert f"log {new}" in sentence


def test_what_a_task_refuses_is_said_in_its_words(tmp_path, capsys):
    """And not in the parser's, which tries every type that the data might be of."""
    tasks = [{"class_path": "onesearch.tasks.align.SidToItem", "init_args": {"weight": -1}}]
    overlay = write(tmp_path / "overlay.yaml", {"data": {"init_args": {"tasks": tasks}}})
    arguments = ("fit", "-c", str(CONFIGS / "sft_align.yaml"), "-c", str(overlay), "--run", str(tmp_path))
    assert refusal(capsys, *arguments) == "SidToItem has weight -1.0: give it 0 for never, or a number above."


def test_a_missing_data_folder_is_named(tmp_path, capsys):
    arguments = ("--config", str(CONFIGS / "data" / "bestbuy.yaml"), "--run", str(tmp_path / "run"))
    sentence = refusal(capsys, "prepare", *arguments, "--source.folder", str(tmp_path / "gone"))
    assert sentence.startswith(f"{tmp_path}/gone/")
    assert "check the folder" in sentence
    assert not (tmp_path / "run" / "log").exists()


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [("--marketplace.num_items", "5", "num_items is 5"), ("--split.test_share", "2", "split.test_share is 2")],
)
def test_a_value_that_cannot_be_is_named(option, value, named, tmp_path, capsys):
    assert named in refusal(capsys, "simulate", "--run", str(tmp_path), option, value)


def test_developers_can_ask_for_the_traceback(monkeypatch, tmp_path):
    monkeypatch.setenv("ONESEARCH_TRACEBACK", "1")
    with pytest.raises(ArtifactError):
        main(["search", "kettle", "--run", str(tmp_path)])


def test_the_installed_program_is_this_entry():
    (program,) = entry_points(group="console_scripts", name="onesearch")
    assert program.load() is main
