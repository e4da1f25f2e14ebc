"""What a visitor of the repository meets: workflows, forms, citation, badges, the README in two languages."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from documents import ROOT, blocks, commands

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def read(path: Path) -> dict[Any, Any]:
    """A YAML file; `on`, which YAML 1.1 takes for yes, by its name."""
    content = yaml.safe_load(path.read_text("utf-8"))
    return {"on" if key is True else key: value for key, value in content.items()}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_is_one(path: Path):
    """Jobs that run somewhere, for a limited time, steps that do one thing, actions of a named version, few rights."""
    workflow = read(path)
    assert set(workflow) <= {"name", "on", "permissions", "concurrency", "jobs", "env"}
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["runs-on"] == "ubuntu-latest"
        assert set([job["needs"]] if "needs" in job else []) <= set(workflow["jobs"])
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert "@" in step.get("uses", "@")
            for target in re.findall(r"^make (\w+)", step.get("run", ""), re.MULTILINE):
                assert target in TARGETS


def test_ci_is_what_anybody_runs():
    """The workflow calls .ci/run, and that calls targets of the Makefile: lint, test and docs."""
    steps = read(GITHUB / "workflows" / "ci.yml")["jobs"]["all"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    assert re.findall(r"^make (\w+)", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE) == [
        "lint",
        "test",
        "docs",
    ]
    assert {"lint", "test", "docs"} <= TARGETS


def test_a_release_needs_no_secret():
    """Only the job that publishes may ask for an identity; nothing reads a secret, and the tag is the version."""
    text = (GITHUB / "workflows" / "release.yml").read_text("utf-8")
    jobs = read(GITHUB / "workflows" / "release.yml")["jobs"]
    assert "secrets." not in text
    assert [name for name, job in jobs.items() if job.get("permissions", {}).get("id-token")] == ["publish"]
    assert "== 'v' + version" in text


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_form_is_one(path: Path):
    """GitHub shows a form only if each field has a known type, an id of its own and a label."""
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["type"] in ("textarea", "input", "dropdown", "checkboxes") for field in fields)
    assert all(field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields) > 0


def test_citation_agrees_with_the_project():
    """Version and licence, and the same two articles as the README's BibTeX."""
    citation = read(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    (bibtex,) = blocks(ROOT / "README.md", "bibtex")
    titles = re.findall(r"title\s+= \{(.+)\}", bibtex.text)
    assert [reference["title"] for reference in citation["references"]] == titles
    for reference in citation["references"]:
        for author in reference["authors"]:
            assert author.get("name") or f"{author['family-names']}, {author['given-names']}" in bibtex.text


def test_badges_are_true():
    """They are pictures of ours, so nothing tells them when the project changes but this."""
    licence, python = (
        (ROOT / "docs" / "images" / f"badge_{name}.svg").read_text("utf-8") for name in ("licence", "python")
    )
    assert f">{PROJECT['license']}<" in licence
    assert f">≥ {PROJECT['requires-python'].removeprefix('>=')}<" in python


def test_both_readmes_say_the_same():
    """The Chinese one has the same commands, figures and pictures, and each links to the other."""
    english, chinese = ((ROOT / name).read_text("utf-8") for name in ("README.md", "README.zh.md"))
    assert "](README.zh.md)" in english
    assert "](README.md)" in chinese
    shown = [
        [words for block in blocks(ROOT / name, "bash") for words in commands(block)]
        for name in ("README.md", "README.zh.md")
    ]
    assert [[word for word in words if word != "红色连衣裙"] for words in shown[1]] == [
        [word for word in words if word != "red dress"] for words in shown[0]
    ]
    figure = re.compile(r"(?<![\w.])\.\d{3}\b")
    assert figure.findall(chinese) == figure.findall(english)
    for pattern in (r"docs/images/\w+\.\w+", r"`configs/[\w./]+`"):
        assert set(re.findall(pattern, english)) <= set(re.findall(pattern, chinese))
