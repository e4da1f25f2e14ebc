"""What the documents show works: command lines are read by the real parsers, Python runs, links lead somewhere."""

import ast
import importlib
import inspect
import re
import shutil
from pathlib import Path

import pytest
import yaml
from jsonargparse import auto_parser

from documents import DOCUMENTS, ROOT, Block, blocks, commands, onesearch
from onesearch.commands import VERBS
from onesearch.main import STAGE_VERBS, main

BASH = [block for path in DOCUMENTS for block in blocks(path, "bash")]
PYTHON = [block for path in DOCUMENTS for block in blocks(path, "python")]
NAMES = {verb.__name__ for verb in VERBS}
PLAN_OPTIONS = {"gpu", "mfu", "peak_tflops", "memory_gb", "json"}
PUBLIC = re.findall(r"^::: (\S+)", (ROOT / "docs" / "api.md").read_text("utf-8"), re.MULTILINE)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder to work in that has the project's configurations, and a reader's own ones in configs/mine."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copytree(ROOT / "configs" / "demo", tmp_path / "configs" / "mine")
    shutil.copy(ROOT / "configs" / "data" / "mapped_example.yaml", tmp_path / "configs" / "mine" / "log.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(stage: bool) -> list[tuple[str, list[str]]]:
    """Every `onesearch` line of the documents, with its place; of the stages' verbs, or of the others."""
    lines = [(block.where, found) for block in BASH for words in commands(block) if (found := onesearch(words))]
    return [(where, words) for where, words in lines if (words[0] in (*STAGE_VERBS, "plan")) == stage]


def test_commands_in_the_documents_parse(elsewhere):
    """Verb, options and their values, as `run_command` would read them."""
    lines = shown(stage=False)
    assert {words[0] for _, words in lines} >= {"prepare", "pipeline", "compare", "search", "serve", "report", "ablate"}
    parsers = [auto_parser(VERBS, as_positional=positional, exit_on_error=False) for positional in (False, True)]
    wrong = []
    for where, words in lines:
        try:
            parsers[words[0] == "search"].parse_args(words)
        except Exception as error:
            wrong.append(f"{where}: {' '.join(words)}: {error}")
    assert wrong == []


def as_fit(words: list[str]) -> list[str]:
    """The line of the fit that a `plan` is of."""
    own = [place for place, word in enumerate(words) if word.removeprefix("--") in PLAN_OPTIONS]
    return ["fit", *(word for place, word in enumerate(words[1:], 1) if {place, place - 1}.isdisjoint(own))]


def test_stages_in_the_documents_parse(elsewhere):
    """Configurations and options of fit, validate, test and predict, by the stages' own parser."""
    import lightning

    from onesearch.training import StageCLI

    class OnlyParse(StageCLI):
        """Reads the command line, and stops there."""

        def instantiate_classes(self) -> None:
            """Nothing is built."""

        def _run_subcommand(self, subcommand: str) -> None:
            """Nothing is run."""

    lines = shown(stage=True)
    assert {words[0] for _, words in lines} == {*STAGE_VERBS, "plan"}
    lines = [(where, as_fit(words) if words[0] == "plan" else words) for where, words in lines]
    parts = lightning.LightningModule, lightning.LightningDataModule
    options = {"subclass_mode_model": True, "subclass_mode_data": True}
    options["parser_kwargs"] = {"parser_mode": "omegaconf+", "exit_on_error": False}
    parser = OnlyParse(*parts, **options, args=["fit", "-c", "configs/encoder.yaml"]).parser
    wrong = []
    for where, words in lines:
        try:
            parser.parse_args([word for word in words if word != "--print_config"])
        except Exception as error:
            wrong.append(f"{where}: {' '.join(words)}: {error}")
    assert wrong == []


def test_commands_in_sentences_are_there():
    """`onesearch VERB --option` between the words of a paragraph: verb and options exist."""
    options = {verb.__name__: set(inspect.signature(verb).parameters) | {"config", "help"} for verb in VERBS}
    stages = {
        *PLAN_OPTIONS,
        "trainer",
        "model",
        "data",
        "run",
        "config",
        "c",
        "ckpt_path",
        "print_config",
        "return_predictions",
    }
    wrong, seen = [], 0
    for path in DOCUMENTS:
        prose = re.sub(r"^(```+).*?^\1$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for verb, rest in re.findall(r"`onesearch ([a-zA-Z]+)([^`]*)`", prose):
            seen += 1
            known = stages if verb in (*STAGE_VERBS, "plan") else options.get(verb, set())
            named = set(re.findall(r"(?<!\S)--?([a-z_]+)", rest))
            if (verb not in {*NAMES, *STAGE_VERBS, "plan", "VERB"}) or (verb != "VERB" and not named <= known):
                wrong.append(f"{path.name}: onesearch {verb}{rest}")
    assert seen > 20
    assert wrong == []


def test_files_in_the_documents_commands_are_there(elsewhere):
    """Scripts, images and benchmarks that a command line names; a benchmark's options stand in its source."""
    wrong = []
    for block in BASH:
        for words in commands(block):
            for word in words:
                if re.match(r"(docker|slurm|benchmarks)/", word) and not (ROOT / word).exists():
                    wrong.append(f"{block.where}: {word}")
            module = next((word for word in words if word.startswith("benchmarks.")), None)
            if module:
                source = (ROOT / (module.replace(".", "/") + ".py")).read_text("utf-8")
                named = [word for word in words if word.startswith("--")]
                wrong += [f"{block.where}: {module} {name}" for name in named if f'"{name}"' not in source]
    assert wrong == []


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.where)
def test_python_in_the_documents_compiles(block: Block):
    """And what it imports from the package is there."""
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("onesearch"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


def test_yaml_in_the_documents_is_yaml():
    """A mapping each, as configurations are."""
    found = [block for path in DOCUMENTS for block in blocks(path, "yaml")]
    assert len(found) > 5
    assert [block.where for block in found if not isinstance(yaml.safe_load(block.text), dict)] == []


@pytest.mark.parametrize("page", ["api.md", "evaluation.md"])
def test_python_in_the_documents_runs(page, tiny_run, tmp_path, monkeypatch, capsys):
    """The blocks of a page, on a run of the name that they open."""
    (tmp_path / "runs").mkdir()
    for name in ("demo", "bestbuy"):
        (tmp_path / "runs" / name).symlink_to(tiny_run)
    monkeypatch.chdir(tmp_path)
    results = {}
    for block in blocks(ROOT / "docs" / page, "python"):
        exec(compile(block.text, block.where, "exec"), results)
    if page == "api.md":
        printed = capsys.readouterr().out.splitlines()
        assert len(printed) == 3
        assert all("<a_" in line for line in printed)
    else:
        assert {row.system for row in results["comparison"].rows} >= {"bm25", "newest"}


def test_python_of_the_simulator_runs(tmp_path, monkeypatch):
    """Both blocks of its page, on a marketplace a tenth as large, which the second one finds as runs/demo."""
    monkeypatch.chdir(tmp_path)
    first, second = blocks(ROOT / "docs" / "simulator.md", "python")
    smaller = {"num_items": 200, "num_users": 100, "num_searches": 500, "num_recommendations": 200, "num_judgments": 50}
    options = [word for name, value in smaller.items() for word in (f"--marketplace.{name}", str(value))]
    results = {}
    exec(re.sub(r"\d_000", "200", first.text.replace("30_000", "500")), results)
    assert len(results["tables"]["items"]) == 200
    main(["simulate", "--run", "runs/demo", *options])
    exec(second.text, results)
    assert len(results["click"]) == len(results["searches"])
    assert results["chances"].shape == (200,)
    assert 0 <= results["chances"].min() < results["chances"].max() < 1


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_anchors_are_headings(path: Path):
    """Each link to a place in a page names one of its headings, as GitHub spells it; `make docs` asks the site."""
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", path.read_text("utf-8")):
        text = ((path.parent / target) if target else path).read_text("utf-8")
        text = re.sub(r"^(```+).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
        headings = [re.sub(r"[`*]", "", found) for found in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
        assert anchor in [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name: str):
    """A docstring for the name and each of its public members, which names every argument of what one calls.

    ruff (D) asks for the docstrings of all of src; that the public API tells its arguments, only this does. A field of
    a record may be explained behind it instead.
    """
    module, _, attribute = name.rpartition(".")
    thing = getattr(importlib.import_module(module), attribute)
    documented = inspect.getdoc(thing)
    assert documented
    for member, value in vars(thing).items() if inspect.isclass(thing) else ():
        if not member.startswith("_") and (callable(value) or isinstance(value, property | classmethod)):
            assert inspect.getdoc(getattr(thing, member)), member
    if inspect.isclass(thing) and issubclass(thing, tuple | BaseException):
        return
    source = inspect.getsource(thing)
    for argument in inspect.signature(thing).parameters:
        behind = re.search(rf"^ +{argument}:.*  # ", source, re.MULTILINE)
        assert argument in ("self", "args", "kwargs") or behind or re.search(rf"\b{argument}\b", documented), argument


def test_every_page_is_in_the_navigation():
    """mkdocs only mentions a page that nothing leads to."""
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    navigation = yaml.safe_load(text[text.index("\nnav:") :])["nav"]
    named = {
        page if isinstance(page, str) else next(iter(page.values()))
        for part in navigation
        for page in next(iter(part.values()))
    }
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages - named == set()
