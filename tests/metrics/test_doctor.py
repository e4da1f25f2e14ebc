"""The tokenizer doctor on catalogues whose illness is known."""

import json
from dataclasses import replace

import numpy as np
import pytest

from onesearch.metrics.doctor import Catalogue, diagnose

SIZES = (8, 8), (4,)


def catalogue(codes, embeddings=None, categories=None, titles=None):
    """Items that decode to exactly their embeddings, unless said otherwise all different."""
    codes = np.array(codes, dtype=np.int64)
    if embeddings is None:
        embeddings = np.random.default_rng(0).normal(size=(len(codes), 6)).astype(np.float32)
    names = titles or [f"item {row}" for row in range(len(codes))]
    return Catalogue(codes, *SIZES, embeddings, embeddings, names, categories or [""] * len(codes))


def grid():
    """64 items, one on each pair of the first two codes, the third going round."""
    return [(row // 8, row % 8, row % 4) for row in range(64)]


def grades(diagnosis):
    return [advice.grade for advice in diagnosis.advice]


def test_a_healthy_codebook_gets_no_advice():
    """All codes used evenly, all items alone, categories that level 1 knows."""
    found = diagnose(catalogue(grid(), categories=[f"category {row // 8}" for row in range(64)]))
    assert found.verdict == "The tokenizer is good."
    assert (found.figures["cur_l1_l2"], found.figures["icr_items"], found.figures["purity_l1"]) == (1, 1, 1)
    assert found.figures["largest_category"] == 1 / 8
    assert found.largest == []
    assert found.bucket_sizes == {1: 64}


def test_one_code_for_all_is_a_collapse():
    found = diagnose(catalogue([(3, 3, 3)] * 64))
    assert found.is_collapsed
    assert "Only 0.0% of the items are alone" in found.verdict
    assert found.largest[0].num_items == 64
    assert len(found.largest[0].titles) == 6  # enough to judge by


def test_a_bucket_names_its_titles():
    """Three items on one SID, largest bucket first; two of them are truly the same text."""
    codes = [*grid(), (0, 0, 0), (0, 0, 0), (1, 0, 0)]
    found = diagnose(catalogue(codes))
    assert [bucket.num_items for bucket in found.largest] == [3, 2]
    assert found.largest[0].titles == ["item 0", "item 64", "item 65"]


def test_twins_are_no_fault_of_the_codebook():
    """Half of the items share an embedding: 32 of 64 cannot be told apart, so an ICR of .5 is all there is."""
    embeddings = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    embeddings[32:] = embeddings[32]
    codes = grid()[:32] + [grid()[32]] * 32
    found = diagnose(catalogue(codes, embeddings))
    assert found.figures["twins"] == 0.5
    assert found.figures["icr_items"] == 0.5
    assert "poor" not in grades(found)
    assert "have the same embedding" in found.verdict


def test_level_1_that_knows_no_category():
    """Categories go round within each code: the majority is 1 of 8, no more than the largest category alone."""
    found = diagnose(catalogue(grid(), categories=[f"category {row % 8}" for row in range(64)]))
    assert grades(found) == ["poor"]
    assert "hardly know the categories: they name 12%" in found.verdict
    assert found.categories[0].level_2 == 1.0


def test_one_large_category_is_no_fault_of_level_1():
    """85% of the items are of one category, and every code holds one category alone: as pure as can be."""
    codes = [*grid(), *[(row // 8, row % 8, 3) for row in range(56)]]
    names = ["large"] * 56 + ["small"] * 8 + ["large"] * 56
    found = diagnose(catalogue(codes, categories=names))
    assert found.figures["purity_l1"] > 0.9
    assert "hardly know" not in found.verdict


def test_stability_forgets_the_names_of_codes():
    """A second fit that only renames codes is perfectly stable; one that shuffles items is not."""
    codes = np.array([(row // 16, row % 2, 0) for row in range(64)])
    renamed = (7 - codes[:, :1], *(codes[:, 1:].T[..., None]))
    same = diagnose(catalogue(codes), np.concatenate(renamed, axis=1))
    assert (same.figures["stability_l1"], same.figures["stability_sid"]) == (1, 1)
    shuffled = diagnose(catalogue(codes), codes[np.random.default_rng(0).permutation(64)])
    assert shuffled.figures["stability_l1"] < 0.2
    assert any("A second fit" in advice.sentence for advice in shuffled.advice)


def test_codes_that_only_queries_use_are_not_dead():
    """Items use 4 of 8 codes of level 1, queries the other 4: advice on dead codes would be wrong."""
    codes = [row for row in grid() if row[0] < 4] * 2
    queries = np.array([row for row in grid() if row[0] >= 4])
    assert "4 of 8 codes of level 1 are unused" in diagnose(catalogue(codes)).verdict
    found = diagnose(replace(catalogue(codes), query_codes=queries))
    assert (found.figures["dead_l1"], found.figures["dead_l1_with_queries"]) == (4, 0)
    assert "unused" not in found.verdict


def test_what_it_finds_is_json():
    """Bucket sizes are keys of an object, as text."""
    written = json.loads(json.dumps(diagnose(catalogue(grid())).as_json()))
    assert written["bucket_sizes"] == {"1": 64}
    assert len(written["usage"]) == 3
    assert max(written["usage"][0]) == pytest.approx(8)
