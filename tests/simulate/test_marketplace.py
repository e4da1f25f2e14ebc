"""A setting that cannot be is refused with one sentence that names the field."""

import pytest

from onesearch.simulate.marketplace import Marketplace


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"typos": 1.5}, r"Marketplace\.typos is 1\.5: give a share between 0 and 1"),
        ({"num_items": 3}, r"Marketplace\.num_items is 3: give at least 100"),
        ({"num_days": 2}, r"Marketplace\.num_days is 2: give at least 10"),
        (
            {"num_users": 50, "num_searches": 60},
            r"Marketplace\.num_searches is 60: give at least twice num_users \(50\)",
        ),
        ({"taste": -1.0}, r"Marketplace\.taste is -1\.0: give 0 or more"),
        ({"num_judgments": -1}, r"Marketplace\.num_judgments is -1: give 0 or more"),
    ],
)
def test_impossible_settings_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Marketplace(**fields)


def test_each_part_has_its_own_chance() -> None:
    """Same seed and part: same numbers; another part or seed: others."""
    first = Marketplace().chance("catalogue").random(4).tolist()
    assert Marketplace().chance("catalogue").random(4).tolist() == first
    assert Marketplace().chance("shoppers").random(4).tolist() != first
    assert Marketplace(seed=1).chance("catalogue").random(4).tolist() != first
