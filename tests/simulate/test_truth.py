"""The truth behind a log: it draws nothing, and the log's clicks and orders are as frequent as it says."""

import itertools
import json

import numpy as np
import pytest

from onesearch.log.prepare import prepare
from onesearch.log.prepared import Log
from onesearch.log.schema import Tables
from onesearch.simulate import Marketplace, Simulator
from onesearch.simulate.sessions import GIVING_UP, READING_ON
from onesearch.simulate.simulator import searches_table
from onesearch.simulate.truth import Truth, seen
from onesearch.types import UserError

TINY = Marketplace(num_items=150, num_users=40, num_searches=200, num_recommendations=60, num_judgments=40)


def test_the_truth_plays_the_log_again_and_draws_nothing(truth: Truth, tables: Tables) -> None:
    """Whatever is asked of it, the next draw of the marketplace is the one that would have come anyway."""
    assert searches_table(truth.searches, truth.marketplace).equals(tables["searches"])
    before = truth.mall.rng.bit_generator.state
    truth.orders("s0000007", np.arange(600))
    truth.seen("s0000007")
    assert truth.mall.rng.bit_generator.state == before


def test_positions_are_seen_as_enumeration_says() -> None:
    """Five items: over all 2^5 likings, numbers of positions read, and numbers of clicks after which reading ends.

    P(click at p) = Σ P(likings) · P(position p is reached) · P(fewer than the allowed clicks above), to the last digit.
    """
    liked = np.array([0.5, 0.1, 0.9, 0.3, 0.7])
    clicked = np.zeros(5)
    for likings in itertools.product([False, True], repeat=5):
        chance = np.prod(np.where(likings, liked, 1 - liked))
        for position in np.flatnonzero(likings):
            reached = (1 - GIVING_UP) ** position
            allowed = sum((1 - READING_ON) * READING_ON ** (n - 1) for n in range(1, 1 + sum(likings[:position])))
            clicked[position] += chance * reached * (1 - allowed)
    np.testing.assert_allclose(seen(liked) * liked, clicked, rtol=1e-12)


@pytest.fixture(scope="module")
def exposures(truth: Truth) -> dict[str, np.ndarray]:
    """Every exposure of the log: its position, probabilities, and what happened."""
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("position", "click", "seen", "order", "clicked", "bought")
    }
    for row, search in enumerate(truth.searches):
        name = f"s{row:07d}"
        found = {
            "position": np.arange(len(search.impressed)),
            "click": truth.click(name, search.impressed),
            "seen": truth.seen(name),
            "order": truth.order(name, search.impressed),
            "clicked": np.isin(search.impressed, search.clicked),
            "bought": np.isin(search.impressed, search.purchased),
        }
        for key, values in found.items():
            parts[key].append(values)
    return {key: np.concatenate(values) for key, values in parts.items()}


def errors(happened: np.ndarray, chance: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """How many standard errors of a binomial count lie between what happened and what should, a group each."""
    counts = [np.bincount(groups, weights) for weights in (happened, chance, chance * (1 - chance))]
    return (counts[0] - counts[1]) / np.sqrt(counts[2])


def test_clicks_are_as_frequent_as_the_truth_says(exposures: dict[str, np.ndarray]) -> None:
    """In ten equal bins of the probability, and position by position; without the position it would be far off."""
    chance, clicked = exposures["seen"] * exposures["click"], exposures["clicked"]
    bins = np.digitize(chance, np.quantile(chance, np.linspace(0.1, 0.9, 9)))
    assert np.abs(errors(clicked, chance, bins)).max() < 3.5
    assert np.abs(errors(clicked, chance, exposures["position"])).max() < 3.5
    assert abs(errors(clicked, chance, np.zeros(len(bins), int))[0]) < 3
    assert errors(clicked, exposures["click"], exposures["position"])[8] < -10


def test_orders_are_as_frequent_as_the_truth_says(exposures: dict[str, np.ndarray]) -> None:
    """Of the clicked items, in four bins; P(click and order), of all exposures, at every second position."""
    clicked = exposures["clicked"]
    order, bought = exposures["order"][clicked], exposures["bought"][clicked]
    bins = np.digitize(order, np.quantile(order, [0.25, 0.5, 0.75]))
    assert np.abs(errors(bought, order, bins)).max() < 3.5
    both = exposures["seen"] * exposures["click"] * exposures["order"]
    assert np.abs(errors(exposures["bought"], both, exposures["position"] // 2)).max() < 3.5
    assert bought.sum() > 100


def test_what_is_not_on_sale_cannot_be_ordered(truth: Truth) -> None:
    """0 for exactly the items that are not listed yet or withdrawn on the day; else the product of the two chances."""
    items, search = np.arange(600), truth.search("s0001234")
    day = int(search.second // 86_400)
    catalogue = truth.mall.catalogue
    on_sale = (catalogue.listed <= day) & (day < catalogue.withdrawn)
    orders = truth.orders("s0001234", items)
    assert 0 < (~on_sale).sum() < 300
    np.testing.assert_array_equal(orders > 0, on_sale)
    both = truth.click("s0001234", items) * truth.order("s0001234", items)
    np.testing.assert_array_equal(orders[on_sale], both[on_sale])


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("simulated") / "log"
    prepare(Simulator(TINY), folder)
    return Log.open(folder)


def test_a_log_tells_its_truth(log: Log) -> None:
    """Lists fit the log's own impressions; clicked items were likelier to be clicked than those beside them."""
    truth, searches = Truth.open(log), log.contexts("train")
    found = truth.of_exposures(searches)
    assert truth.marketplace == TINY
    assert [len(part) for part in found.click] == [len(context.impressed) for context in searches]
    clicked = [np.isin(context.impressed, context.clicked) for context in searches]
    both = np.concatenate(found.click) * np.concatenate(found.seen)
    assert both[np.concatenate(clicked)].mean() > 3 * both[~np.concatenate(clicked)].mean()
    first, shown = found.click[0], np.array(searches[0].impressed)
    np.testing.assert_array_equal(truth.click(searches[0].search_id, shown[::-1]), first[::-1])
    np.testing.assert_array_equal(truth.order(searches[0].search_id, shown), found.order[0])


def test_logs_without_a_truth_are_refused(log: Log, tiny_log: Log) -> None:
    """A log from elsewhere, and one whose settings do not give it: as if another version had drawn it."""
    with pytest.raises(UserError, match="does not hold the settings of a simulation"):
        Truth.open(tiny_log)
    path = log.folder / "manifest.json"
    written = path.read_text("utf-8")
    manifest = json.loads(written)
    manifest["config"]["settings"]["seed"] = 1
    path.write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(UserError, match="simulated by another version"):
        Truth.open(Log.open(log.folder))
    path.write_text(written, "utf-8")
