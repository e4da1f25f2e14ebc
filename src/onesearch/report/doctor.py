"""What the tokenizer doctor found: the verdict in words, the figures, and the items behind them."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from onesearch.artifacts import read_manifest
from onesearch.metrics.advice import Advice
from onesearch.metrics.doctor import Bucket, CategoryPurity, Diagnosis
from onesearch.report.elements import bar, element, join, note
from onesearch.report.figures import figures_table, levels_table
from onesearch.report.inputs import read_json
from onesearch.report.page import Section
from onesearch.report.usage import bucket_histogram, points, usage_curves
from onesearch.sid.spec import SidSpec
from onesearch.types import UserError

TITLE = "The tokenizer, examined"


def section(run: Path) -> Section | None:
    """The section; where nobody has examined this codebook yet, how that is done.

    Raises:
        UserError: `doctor.json` is of another version.
    """
    spec = read_json(run / "quantizer" / "spec.json")
    if spec is None:
        return None
    content = read_json(run / "doctor.json")
    diagnosis = None if content is None else _diagnosis(run / "doctor.json", content)
    if diagnosis is None:
        html = _how_to(run, "has not been examined")
    elif _is_of_another(run / "quantizer", SidSpec(**spec), content, diagnosis):
        html = _how_to(run, "was fitted anew after it was examined")
    else:
        html = _findings(diagnosis, SidSpec(**spec))
    return Section("doctor", TITLE, html)


def validate_command(run: Path) -> str:
    """How a codebook is examined, with the overlay of the recipe that it was fitted by."""
    return f"onesearch validate -c configs/quantizer.yaml -c configs/RECIPE/quantizer.yaml --run {run}"


def _how_to(run: Path, reason: str) -> Markup:
    return element("p", f"The codebook of this run {reason}: ", element("code", validate_command(run)))


def _is_of_another(quantizer: Path, spec: SidSpec, content: dict[str, Any], diagnosis: Diagnosis) -> bool:
    """Whether another codebook was examined; diagnoses that do not name theirs are told by the shape alone."""
    examined = content.get("quantizer")
    if examined is not None and examined != read_manifest(quantizer).fingerprint:
        return True
    return points(spec) != [len(curve) for curve in diagnosis.usage]


def _diagnosis(path: Path, content: dict[str, Any]) -> Diagnosis:
    """The inverse of `Diagnosis.as_json`."""
    try:
        return Diagnosis(
            content["figures"],
            content["usage"],
            {int(size): count for size, count in content["bucket_sizes"].items()},
            [Bucket(**bucket) for bucket in content["largest"]],
            [CategoryPurity(**category) for category in content["categories"]],
            [Advice(**advice) for advice in content["advice"]],
        )
    except (KeyError, TypeError) as error:
        again = f"run `{validate_command(path.parent)}` again"
        raise UserError(f"{path} was written by another version ({error}): {again}.") from error


def _findings(diagnosis: Diagnosis, spec: SidSpec) -> Markup:
    num_items = int(diagnosis.figures["num_items"])
    parts = [
        _verdict(diagnosis),
        element("h3", "Figures"),
        figures_table(diagnosis.figures, spec),
        element("h3", "Levels"),
        levels_table(diagnosis.figures, spec),
        element(
            "div",
            usage_curves(diagnosis.usage, spec, num_items),
            bucket_histogram(diagnosis.bucket_sizes),
            class_="charts",
        ),
    ]
    if diagnosis.largest:
        parts += [element("h3", "The largest buckets"), _buckets(diagnosis.largest, spec)]
    if diagnosis.categories:
        parts += [element("h3", "Purity by category"), _purity(diagnosis.categories)]
    return join(parts)


def _verdict(diagnosis: Diagnosis) -> Markup:
    """The judgement, coloured by the gravest grade, then each piece of advice with its own."""
    grades = [advice.grade for advice in diagnosis.advice]
    gravest = next((grade for grade in ("collapsed", "poor", "watch") if grade in grades), "good")
    advice = [
        element("li", element("span", advice.grade, class_=f"grade {advice.grade}"), " ", advice.sentence)
        for advice in diagnosis.advice
    ]
    return element(
        "div",
        element("p", element("strong", diagnosis.judgement)),
        element("ul", *advice) if advice else None,
        class_=f"verdict {gravest}",
    )


def _buckets(largest: list[Bucket], spec: SidSpec) -> Markup:
    question = "Are they duplicates? The words that all titles of a SID share are bold."
    return note(question) + element("div", *(_bucket(bucket, spec) for bucket in largest), class_="cards")


def _bucket(bucket: Bucket, spec: SidSpec) -> Markup:
    shared = set.intersection(*(set(title.lower().split()) for title in bucket.titles))
    titles = [element("li", _emphasised(title, shared)) for title in bucket.titles]
    more = bucket.num_items - len(bucket.titles)
    return element(
        "article",
        element("h4", f"{bucket.num_items:,} items"),
        element("code", spec.render(bucket.sid)),
        element("ul", *titles),
        note(f"and {more:,} more") if more else None,
        class_="card",
    )


def _emphasised(title: str, shared: set[str]) -> Markup:
    return Markup(" ").join(element("b", word) if word.lower() in shared else word for word in title.split())


def _purity(categories: list[CategoryPurity]) -> Markup:
    """Two bars a category."""
    keys = _key("level 1", "blue") + _key("levels 1 and 2", "orange")
    rows = [
        element(
            "li",
            element("span", category.category, element("small", f"{category.num_items:,} items"), class_="label"),
            element("span", f"{category.level_1:.1%} · {category.level_2:.1%}", class_="value"),
            bar(category.level_1),
            bar(category.level_2, "orange"),
        )
        for category in categories
    ]
    explained = "How much of a category lies in codes where it is the most frequent one."
    return note(explained) + note(keys) + element("ul", *rows, class_="measured")


def _key(name: str, color: str) -> Markup:
    return element("span", element("span", class_=color), name, class_="key")
