"""The frame holds together: what the documents, the configuration and the packaging promise is there."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import onesearch

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

BARE = ("models", "decoding", "quantize", "behavior", "losses")
"""Packages that import with torch, transformers and numpy alone; tokenizers and safetensors come with transformers."""
BARE_ALLOWED = {"torch", "transformers", "numpy", "tokenizers", "safetensors", "onesearch"}

FAISS = "faiss"  # an extra: a plain install has none
SERVICE = ROOT / "src" / "onesearch" / "serve"  # what is beside the engine there needs the extras `serve` and `onnx`


def name_of(path: Path) -> str:
    """The path inside the project, as a test's name."""
    return path.relative_to(ROOT).as_posix()


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    """Top-level names of the modules that a file imports, the standard library's left out."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names


def requirements(*groups: str) -> list[Requirement]:
    """Requirements of the core and of the named extras."""
    lines = [*PROJECT["dependencies"], *(line for group in groups for line in PROJECT["optional-dependencies"][group])]
    return [found for found in map(Requirement, lines) if found.name != PROJECT["name"]]  # `dev` names `serve`


def shipped_texts() -> Iterator[Path]:
    """Every text file that belongs to the project."""
    for pattern in ("src", "tests", "configs", "docs", "docker", "slurm", ".ci"):
        yield from (path for path in sorted((ROOT / pattern).rglob("*")) if path.is_file() and path.suffix != ".pyc")
    yield from (path for path in sorted(ROOT.iterdir()) if path.is_file() and path.name != ".coverage")


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_config_parses_and_stays_short(path: Path) -> None:
    """A shipped YAML is a mapping, and states only what differs from the defaults: at most 40 lines of YAML."""
    text = path.read_text("utf-8")
    assert isinstance(yaml.safe_load(text), dict)
    assert sum(1 for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")) <= 40


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_documents_name_what_is_there(path: Path) -> None:
    """Each `make X` in a document is a target of the Makefile, and each relative link leads to a file."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    text = path.read_text("utf-8")
    commands = {
        word for found in re.findall(r"(?:^|`)make ((?:[a-z-]+ ?)+)", text, re.MULTILINE) for word in found.split()
    }
    assert commands <= targets
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", text)
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_readme_tells_the_start() -> None:
    """The README holds both commands of the start, so that the test above has something to check."""
    text = (ROOT / "README.md").read_text("utf-8")
    assert "\nmake demo" in text
    assert "\nmake test" in text


def test_configs_in_the_readme_exist() -> None:
    """The README's table of stages names a YAML for each stage, and an example to copy (to the reader's own `mine`)."""
    named = re.findall(r"configs/(?!mine/)[\w/]+\.yaml", (ROOT / "README.md").read_text("utf-8"))
    assert len(named) >= 8
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    """Paths outside of the project come from the command line or the environment only."""
    foreign = re.compile(r"(?<![\w.}/])/(?:wor[k]|hom[e]|roo[t]|User[s])(?:/|\b(?!\.))|\.\./(?:share[d]|\.librar[y])")
    found = []
    for path in shipped_texts():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:  # an image, or a fixture of broken bytes
            continue
        found += [f"{name_of(path)}: {match.group()}" for match in foreign.finditer(text)]
    assert found == []


def test_versions_agree() -> None:
    """One version in pyproject.toml, in the package and in the change log (there as the next one or as a heading)."""
    assert PROJECT["version"] == onesearch.__version__
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] in ("Unreleased", PROJECT["version"])


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_module_says_what_it_is(path: Path) -> None:
    """Each module opens with a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


def test_every_import_is_declared() -> None:
    """What src imports is a core dependency, so that a plain install works; faiss, an extra, only inside functions.

    The service and the export have extras of their own, which nothing outside of their folder imports.
    """
    distributions = packages_distributions()
    for extras, paths in (
        ((), [path for path in SOURCES if SERVICE not in path.parents]),
        (("serve", "onnx"), [path for path in SOURCES if SERVICE in path.parents]),
    ):
        declared = {canonicalize_name(requirement.name) for requirement in requirements(*extras)}
        names = {name for path in paths for name in imported(path)} - {"onesearch", FAISS}
        undeclared = {
            name
            for name in names
            if not declared & {canonicalize_name(found) for found in distributions.get(name, [name])}
        }
        assert undeclared == set()
    assert [name_of(path) for path in SOURCES if FAISS in imported(path, top_level_only=True)] == []


def test_the_core_imports_on_a_bare_machine() -> None:
    """The algorithms' packages name nothing beyond torch, transformers and numpy; faiss only inside k-means."""
    folder = ROOT / "src" / "onesearch"
    files = [
        path for part in BARE for path in ([folder / f"{part}.py"] if part == "losses" else (folder / part).rglob("*"))
    ]
    foreign = {name_of(path): imported(path) - BARE_ALLOWED for path in files if path.suffix == ".py"}
    allowed = foreign.get("src/onesearch/quantize/kmeans.py", set())
    allowed.discard(FAISS)
    assert len(foreign) >= len(BARE)
    assert {name: modules for name, modules in foreign.items() if modules} == {}


def test_pins_cover_the_tested_setup() -> None:
    """constraints-cpu.txt pins each direct dependency of the CPU set-up, inside the range of pyproject.toml."""
    lines = (ROOT / "constraints-cpu.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    for requirement in requirements("cpu", "serve", "onnx", "dev", "docs"):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_the_engine_needs_no_extra() -> None:
    """Whoever searches from Python or the command line needs no web framework: of serve/, only what listens does."""
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('fastapi', 'starlette', 'pydantic', 'uvicorn', 'prometheus_client'))\n"
        "import onesearch.serve.engine, onesearch.serve.settings, onesearch.commands\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
