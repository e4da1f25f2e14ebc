"""What can be set of a simulated marketplace. The behaviour behind the fields is told in docs/simulator.md."""

import datetime
from dataclasses import dataclass, fields

import numpy as np

from onesearch.types import UserError

DAY = 86_400  # seconds

_SHARES = ("cold_users", "cold_items", "indifferent", "refinding", "synonyms", "typos", "reordered")


@dataclass(frozen=True)
class Marketplace:
    """Size, span and habits of a simulated marketplace; equal fields give equal bytes.

    Attributes:
        num_items: items of the catalogue.
        num_users: shoppers; each of them searches at least once.
        num_searches: searches in the whole log.
        num_recommendations: clicks in the recommendation feed, outside search.
        num_judgments: graded (query, item) pairs.
        start: the first day of the log, UTC.
        num_days: length of the log in days.
        cold_users: share of shoppers who first appear in the last tenth of the time.
        cold_items: share of items that are listed after the first day.
        taste: strength of long-lived tastes; 0 makes all shoppers alike and leaves few clicks.
        indifferent: share of shoppers without any taste.
        refinding: share of sessions in which a shopper looks for an item that they clicked before.
        synonyms: probability that a shopper uses another word than the catalogue.
        typos: probability that a query holds a typing error.
        reordered: probability that the words stand in another order than usual.
        seed: seed of all chance.
    """

    num_items: int = 2_000
    num_users: int = 3_000
    num_searches: int = 30_000
    num_recommendations: int = 15_000
    num_judgments: int = 3_000
    start: datetime.date = datetime.date(2025, 3, 1)
    num_days: int = 90
    cold_users: float = 0.15
    cold_items: float = 0.25
    taste: float = 1.0
    indifferent: float = 0.1
    refinding: float = 0.15
    synonyms: float = 0.2
    typos: float = 0.08
    reordered: float = 0.03
    seed: int = 0

    def __post_init__(self) -> None:
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"Marketplace.{name} is {getattr(self, name)}: give a share between 0 and 1.")
        for name, least in (("num_items", 100), ("num_users", 10), ("num_days", 10)):
            if getattr(self, name) < least:
                raise UserError(f"Marketplace.{name} is {getattr(self, name)}: give at least {least}.")
        if self.num_searches < 2 * self.num_users:
            raise UserError(
                f"Marketplace.num_searches is {self.num_searches}: give at least twice num_users ({self.num_users}), "
                "since every shopper searches."
            )
        for field in fields(self):
            if field.type in (int, float) and getattr(self, field.name) < 0:
                raise UserError(f"Marketplace.{field.name} is {getattr(self, field.name)}: give 0 or more.")

    @property
    def seconds(self) -> int:
        """Length of the log in seconds."""
        return self.num_days * DAY

    @property
    def late(self) -> float:
        """Second at which the last tenth of the time begins."""
        return 0.9 * self.seconds

    def chance(self, part: str) -> np.random.Generator:
        """A generator of its own for each part, so that more shoppers do not change the catalogue."""
        return np.random.default_rng([self.seed, *part.encode()])
