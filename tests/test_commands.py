"""The verbs beside the stages, as a user types them."""

import pytest

from handful import COLORS, facts
from onesearch.log.prepared import Log
from onesearch.main import main

SIZES = {"items": 100, "users": 12, "searches": 60, "recommendations": 20, "judgments": 10, "days": 20}


def marketplace(prefix: str) -> list[str]:
    return [f"--{prefix}num_{name}={size}" for name, size in SIZES.items()]


def test_simulate_writes_a_log_and_reports(tmp_path, capsys):
    """As large as it was asked for; the report goes to stderr, so that stdout stays free."""
    main(["simulate", "--run", str(tmp_path / "run"), *marketplace("marketplace.")])
    log = Log.open(tmp_path / "run" / "log")
    assert (len(log.items), len(log.searches), len(log.judgments)) == (100, 60, 10)
    out, err = capsys.readouterr()
    assert out == ""
    for word in ("searches", "test from", "validation"):
        assert word in err


def test_the_same_marketplace_gives_the_same_log_and_another_seed_another(tmp_path):
    """Fingerprints are hashes of all files."""
    runs = {"a": [], "b": [], "c": ["--marketplace.seed=1"]}
    for name, options in runs.items():
        main(["simulate", "--run", str(tmp_path / name), *marketplace("marketplace."), *options])
    a, b, c = (Log.open(tmp_path / name / "log").manifest.fingerprint for name in runs)
    assert a == b != c


def test_prepare_takes_the_split_and_the_longest_history_from_the_command_line(tmp_path, capsys):
    """60 searches: half for the test; of the rest half for validation; no history longer than 2."""
    source = ["--source", "onesearch.simulate.Simulator", *marketplace("source.marketplace.")]
    split = ["--split.test_share", "0.5", "--split.validation_share", "0.5", "--max_history", "2"]
    main(["prepare", "--run", str(tmp_path / "run"), *source, *split])
    parts = facts(tmp_path / "run", "log")["split"]
    assert (parts["train"], parts["validation"], parts["test"]) == (15, 15, 30)
    contexts = Log.open(tmp_path / "run" / "log").contexts("test")
    assert max(len(context.long_clicks) for context in contexts) == 2


def rows(text: str) -> list[list[str]]:
    """Cells of a printed table's lines."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal on which nothing is cut off."""
    monkeypatch.setenv("COLUMNS", "160")


def test_search_prints_a_table(whole_run, capsys, wide):
    """k lines of known items, each once, best first, with their prices and SIDs."""
    log = Log.open(whole_run / "log")
    capsys.readouterr()
    main(["search", "kettle", "--run", str(whole_run), "--k", "3", "--num_beams", "8"])
    out = capsys.readouterr().out
    lines = rows(out)
    assert "kettle" in out.splitlines()[0]
    assert [line[0] for line in lines] == ["1", "2", "3"]
    assert len({line[1] for line in lines}) == 3
    for _, item, title, price, sid, score in lines:
        known = log.items.slice(log.row_of[item], 1).to_pylist()[0]
        assert (title, price) == (known["title"], f"{known['price']:.2f}")
        assert sid.startswith("<a_")
        assert float(score) < 0
    assert [float(line[5]) for line in lines] == sorted((float(line[5]) for line in lines), reverse=True)


def test_search_filters(whole_run, capsys, wide):
    """Four of the sixteen items are mugs; the white one costs 23, the green one is blocked."""
    options = ["--filter.category", "Mug", "--filter.price_max", "22", "--filter.block", "[green-mug, 12]"]
    main(["search", "mug", "--run", str(whole_run), "--num_beams", "8", *options])
    out = capsys.readouterr().out
    assert sorted(line[1] for line in rows(out)) == ["blue-mug", "red-mug"]
    assert "(category Mug, up to 22, 2 blocked, in stock: 2 of 16 items)" in out
    main(["search", "mug", "--run", str(whole_run), "--filter.price_min", "100"])
    assert rows(capsys.readouterr().out) == []
    with pytest.raises(SystemExit):
        main(["search", "mug", "--run", str(whole_run), "--filter.category", "mugg"])
    assert "onesearch: filter.category: no item has the category 'mugg' (like it: 'mug')." in capsys.readouterr().err


def test_search_prints_what_looks_like_markup(whole_run, capsys, wide):
    """A query in brackets, as a title may be, is printed as it stands."""
    main(["search", "[red] kettle", "--run", str(whole_run), "--k", "1", "--num_beams", "4"])
    assert "[red] kettle" in capsys.readouterr().out


def test_search_knows_its_user_and_its_stage(whole_run, capsys, wide):
    """Who asks is in the title; an earlier stage answers in its own form, and unknown users are nobody."""
    for options in (["--user", f"{COLORS[0]}-0"], ["--user", "nobody"], ["--stage", "sft_align"]):
        main(["search", "kettle", "--run", str(whole_run), "--k", "2", "--num_beams", "4", *options])
        out = capsys.readouterr().out
        assert len(rows(out)) == 2
        assert (f"(user {options[1]})" in out) == (options[0] == "--user")


def test_search_re_sorts_and_tells_why(whole_run, capsys, wide):
    """By falling score, which is made of the parts beside it as the line beneath says, up to their three decimals."""
    options = ["--rerank", "true", "--reranking.list_size", "8", "--reranking.generator_weight", "0.5"]
    main(["search", "kettle", "--run", str(whole_run), "--k", "3", "--num_beams", "8", *options])
    out = capsys.readouterr().out
    assert "score = 1·CTR + 0.3·CVR + 1·CTCVR + 0.2·relevance + 0.5·log p" in out
    parts = [[float(cell) for cell in line[5:]] for line in rows(out)]
    assert len(parts) == 3
    for log_p, score, ctr, cvr, ctcvr, relevance in parts:
        assert score == pytest.approx(ctr + 0.3 * cvr + ctcvr + 0.2 * relevance + 0.5 * log_p, abs=0.01)
    assert [line[1] for line in parts] == sorted((line[1] for line in parts), reverse=True)
