"""A run of eight items as its stages would leave it, for the page alone: no model, no training."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from onesearch.artifacts import MANIFEST, Manifest, write_json, writing
from onesearch.keywords.lexicon import Keyword, Lexicon
from onesearch.metrics.doctor import Catalogue, diagnose
from onesearch.sid.spec import SidSpec
from onesearch.types import ATTRIBUTE_TYPES

SPEC = SidSpec((4, 2), (2,))
CODES = [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 1], [1, 1, 0], [2, 0, 1]]
TITLES = ["<script>alert(1)</script> red kettle", "kettle, red & loud", "Red Kettle", *(f"thing {n}" for n in range(5))]
CATEGORIES = ["kettles"] * 4 + ["lamps <i>"] * 4
FIGURES = {"cur_l1": 0.5, "cur_l1_l2": 0.25, "cur_l1_l2_l3": 0.1, "icr_items": 0.9, "icr_sids": 0.95}


def add_doctor(run: Path) -> None:
    """What `validate` writes, beside the shape of the SIDs."""
    embeddings = np.eye(8, dtype=np.float32)
    catalogue = Catalogue(
        np.array(CODES), SPEC.rq_sizes, SPEC.opq_sizes, embeddings, embeddings * 0.5, TITLES, CATEGORIES
    )
    (run / "quantizer").mkdir(parents=True, exist_ok=True)
    write_json(run / "quantizer" / "spec.json", asdict(SPEC))
    write_json(run / "doctor.json", diagnose(catalogue, np.array(CODES)).as_json())


def add_lexicon(run: Path) -> None:
    """Twelve entities and a brand; the other types have no keywords."""
    (run / "quantizer").mkdir(parents=True, exist_ok=True)
    kettles = [Keyword("Entity", f"kettle {n}", 10**n) for n in range(12, 0, -1)]
    Lexicon((*kettles, Keyword("Brand", "hexa", 7))).save(run / "quantizer" / "lexicon.json")


def add_tokenizers(run: Path) -> None:
    """Three variants; the second has the best ICR and ties with the first, as printed, on recall."""
    best = {
        "recall@10": {"value": 0.30001, "low": 0.29, "high": 0.31},
        "MRR@10": {"value": 0.1, "low": 0.09, "high": 0.2},
    }
    tied = {
        "recall@10": {"value": 0.30004, "low": 0.28, "high": 0.32},
        "MRR@10": {"value": 0.2, "low": 0.19, "high": 0.3},
    }
    alone = {name: value for name, value in FIGURES.items() if not name.startswith("cur_")}
    rows = [
        {"variant": "RQ", "figures": FIGURES | {"icr_items": 0.4}, "metrics": best, "num_searches": 1234},
        {"variant": "RQ-OPQ", "figures": FIGURES, "metrics": tied, "num_searches": 1234},
        {"variant": "OPQ alone", "figures": alone | {"icr_items": 0.2}, "metrics": {}, "num_searches": 1234},
    ]
    write_json(run / "tokenizers.json", {"rows": rows, "note": "every variant < reads the same embeddings"})


def add_tagger(run: Path) -> None:
    """Facts as the stage exports them: colours are learnt and never asked for, brands never met."""
    facts = {
        "val": {"items": {"f1": 0.8}, "queries": {"f1": 0.6}},
        "f1": {"items": {"Entity": 0.75, "Color": 0.5}, "queries": {"Entity": 0.25}},
        "num_spans": dict.fromkeys(ATTRIBUTE_TYPES, 0) | {"Entity": 1000, "Color": 500},
    }
    with writing(run / "tagger", "tagger", facts=facts):
        pass


def add_comparison(run: Path) -> None:
    """Two systems, on all searches and on unseen queries, and a metric that is not shown."""
    figures = {
        ("BM25", "all"): 0.5,
        ("onesearch", "all"): 0.75,
        ("BM25", "unseen"): 0.25,
        ("onesearch", "unseen"): 0.125,
    }
    rows = [
        {"system": system, "slice": part, "metric": metric, "value": value, "low": value - 0.125, "high": value + 0.125}
        | {"num_searches": 2000 if part == "all" else 30}
        for (system, part), value in figures.items()
        for metric in ("HR@10", "MRR@10")
    ]
    write_json(run / "compare.json", {"rows": rows, "differences": []})


def add_studies(run: Path) -> None:
    """Two variants and two seeds; nobody is new. The second variant loses .25, of unseen queries it may gain."""

    def figure(*seeds: float, width: float = 0.125) -> dict[str, object]:
        value = sum(seeds) / len(seeds)
        return {"value": value, "low": value - width, "high": value + width, "seeds": list(seeds)}

    def part(num: int, metrics: dict[str, object], differences: dict[str, object]) -> dict[str, object]:
        return {"num_searches": num, "metrics": metrics, "differences": differences}

    first = {"HR@10": figure(0.5, 0.75), "MRR@10": figure(0.25, 0.25)}
    second = {"HR@10": figure(0.25, 0.5), "MRR@10": figure(0.25, 0.25)}
    lost = {"HR@10": figure(-0.25, -0.25), "MRR@10": figure(0.0, 0.0)}
    gained = {"HR@10": figure(0.0625, 0.0625)}
    common = {"stage": "sft_personalize", "seeds": [0, 1], "figures": {"cur_l1": 0.5}}
    slices = [{"unseen": part(1200, first, {})}, {"unseen": part(1200, second, gained)}]
    rows = [
        {"variant": "all <views>", **common, **part(2400, first, {}), "slices": slices[0]},
        {"variant": "no-short", **common, **part(2400, second, lost), "slices": slices[1]},
    ]
    (run / "ablation").mkdir(parents=True, exist_ok=True)
    write_json(run / "ablation" / "views.json", {"rows": rows, "note": "the same budget & seeds"})
    write_json(run / "ablation" / "alone.json", {"rows": [dict(rows[0], metrics={})], "note": ""})


def add_catalogue(run: Path) -> None:
    """Version 1 of an older codebook; 2 and 10 of this one, whose numbers do not sort as words do."""
    old, own = run / "older", run / "quantizer"
    for folder in (old, own):
        folder.mkdir(exist_ok=True)
        write_json(folder / MANIFEST, asdict(Manifest("quantizer", f"fingerprint of {folder.name}", {}, {})))
    for version, parent in ((1, old), (10, own), (2, own)):
        figures = {"residual_ratio": 1 + version / 10, "icr_items": version / 10}
        advice = ["Fit it again."] if version == 10 else []
        with writing(run / "catalogue" / f"{version:04d}", "catalogue", [parent]) as folder:
            drift = {"version": version, "num_items": 1000 * version, "figures": figures, "advice": advice}
            write_json(folder / "drift.json", drift)


INPUTS = {
    "doctor": add_doctor,
    "tokenizers": add_tokenizers,
    "lexicon": add_lexicon,
    "tagger": add_tagger,
    "comparison": add_comparison,
    "studies": add_studies,
    "catalogue": add_catalogue,
}
"""What each section reads, in the order of the page."""
