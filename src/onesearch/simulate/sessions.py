"""Sessions: a short-lived intent, one to four searches, a slate from a production-like engine, clicks and purchases.

    engine's score     e(u, q, i) = 2·match(q, i) + 0.35·log p_t(i) + 3·h(u, i) + 1.5·k(u, i) + Gumbel(0, 1)
    attraction         a(u, i) = b + 2·match(intent, i) + 1.3·t(u, i) + 0.4·quality(i) - k(u, i)
    click              P(click on i at position p) = P(p is seen) · σ(a(u, i));  `simulate.truth` has all of them
    purchase           P(purchase | click) = σ(c + purse(u, i) + 0.7·quality(i))

h is what the engine has counted of the shopper's clicks: it knows no taste, only behaviour. k is 1 for an item that the
shopper clicked before: less interesting, but where it is looked for again it is worth much. The shopper reads from the
top and gives up after each position with a fixed probability, which is position bias; a click mostly ends the reading.
"""

import bisect
from typing import NamedTuple

import numpy as np

from onesearch.simulate.catalogue import COLUMN, Catalogue, Floats, Ints
from onesearch.simulate.marketplace import DAY, Marketplace
from onesearch.simulate.queries import Intent, Query, QueryWriter, matches
from onesearch.simulate.recommendations import Recommendations
from onesearch.simulate.shoppers import TASTE_COLUMNS, Shoppers
from onesearch.simulate.vocabulary import Vocabulary

SESSION_LENGTHS = (0.48, 0.28, 0.15, 0.09)
SLATE = (10, 21)  # items on a result page: at least, below
STRAYS = 8  # items of other products that the engine considers, as real engines do
GIVING_UP = 0.04  # after each position
READING_ON = 0.45  # after a click
CLICK_BIAS = -6.05
PURCHASE_BIAS = -3.5
FINDING = 6.0  # added to the logit of the very item that is looked for again
SHARED_DEVICE = 0.08  # share of intents that do not come from the shopper's own interests: gifts, family
MEMORY = 12  # clicked items that a shopper may look for again
GAP = 3600  # seconds between two sessions of a shopper, at least


class Search(NamedTuple):
    """A search with what was shown and done; item rows."""

    user: int
    second: float  # since the start of the log
    query: Query
    intent: Intent  # what the log does not tell
    impressed: Ints  # in display order
    clicked: Ints
    purchased: Ints


class Mall:
    """Plays sessions one after another, so that nobody acts on what has not happened yet."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        catalogue: Catalogue,
        shoppers: Shoppers,
        recommendations: Recommendations,
        config: Marketplace,
    ) -> None:
        self.vocabulary, self.catalogue, self.shoppers, self.config = vocabulary, catalogue, shoppers, config
        self.rng = config.chance("sessions")
        self.writer = QueryWriter(vocabulary, catalogue, config, self.rng)
        self.recommendations = recommendations
        self.past = recommendations.by_user(config.num_users)  # (second, item) clicks a shopper can remember
        self.counted = np.zeros((config.num_users, catalogue.absent + 1), np.float32)  # clicks by user and value
        self._pools: dict[tuple[int, int], Ints] = {}
        department = np.array([leaf.department for leaf in vocabulary.categories])[catalogue.category]
        self.of_department = [np.flatnonzero(department == d) for d in range(len(vocabulary.departments))]
        self.of_category = [np.flatnonzero(catalogue.category == c) for c in range(len(vocabulary.categories))]
        self.department = department

    def play(self) -> list[Search]:
        """All searches of the log, by time."""
        users, starts, lengths = plan(self.shoppers, self.config, self.config.chance("plan"))
        searches = [
            search
            for user, start, length in zip(users, starts, lengths, strict=True)
            for search in self._session(int(user), float(start), int(length))
        ]
        return sorted(searches, key=lambda search: search.second)

    def _session(self, user: int, second: float, length: int) -> list[Search]:
        searches: list[Search] = []
        intent = self._intent(user, second)
        wording = self.writer.wording(intent)
        for _ in range(length):
            search = self._search(user, second, intent, self.writer.write(intent, wording))
            searches.append(search)
            self._remember(search)
            second += 15 + self.rng.exponential(45)
            if len(search.purchased):  # bought: on to something else
                intent = self._intent(user, second)
                wording = self.writer.wording(intent)
            else:
                wording = self.writer.reformulate(intent, wording)
        return searches

    def _intent(self, user: int, second: float) -> Intent:
        day = int(second // DAY)
        known = self.catalogue.on_sale(self._known(user, second)[-MEMORY:], day)
        if len(known) and self.rng.random() < self.config.refinding:
            return self.writer.intent(int(self.rng.choice(known)), exact=True)
        own = self.rng.random() >= SHARED_DEVICE
        weight = self.shoppers.categories[user] if own else self.shoppers.categories.mean(0)
        items = np.empty(0, np.int64)
        while not len(items):
            category = int(self.rng.choice(len(weight), p=weight))
            items = self.catalogue.on_sale(self.of_category[category], day)
        appeal = 0.5 * self._popularity(items, day) + own * self.shoppers.liking(user, self.catalogue.values[items])
        return self.writer.intent(int(items[np.argmax(appeal + self.rng.gumbel(size=len(items)))]))

    def _search(self, user: int, second: float, intent: Intent, query: Query) -> Search:
        impressed = self._slate(user, second, query, intent.category)
        attraction = self.attraction(user, second, intent, impressed)
        seen = min(self.rng.geometric(GIVING_UP), len(impressed))
        liked = np.flatnonzero(self.rng.random(seen) < attraction[:seen])
        clicked = impressed[liked[: self.rng.geometric(1 - READING_ON)]]
        bought = clicked[self.rng.random(len(clicked)) < self.conversion(user, clicked)]
        return Search(user, second, query, intent, impressed, clicked, bought)

    def _known(self, user: int, second: float) -> Ints:
        """Items that the shopper clicked before `second`, oldest first."""
        past = self.past[user]
        return np.array([item for _, item in past[: bisect.bisect_left(past, (second, -1))]], np.int64)

    def _slate(self, user: int, second: float, query: Query, category: int) -> Ints:
        day = int(second // DAY)
        pool = self._pool(query.entity, day)
        others = self.of_department[self.vocabulary.categories[category].department]
        strays = self.catalogue.on_sale(self.rng.choice(others, STRAYS), day)
        candidates = np.unique(np.concatenate([pool, strays]))
        values = self.catalogue.values[candidates]
        counted = self.counted[user]
        habit = counted[values[:, TASTE_COLUMNS]].mean(1) / (1.0 + counted[values[:, TASTE_COLUMNS]].max(initial=0.0))
        score = 2.0 * matches(values, query.values) + 0.35 * self._popularity(candidates, day) + 3.0 * habit
        score += 1.5 * np.isin(candidates, self._known(user, second))
        score += self.rng.gumbel(0, 1.0, len(candidates))
        score -= 2.5 * (values[:, COLUMN["Entity"]] != query.entity)
        slate: Ints = candidates[np.argsort(-score, kind="stable")[: self.rng.integers(*SLATE)]]
        return slate

    def attraction(self, user: int, second: float, intent: Intent, items: Ints) -> Floats:
        """Probability that the shopper clicks each of `items` on seeing it, σ(a). It draws nothing."""
        values = self.catalogue.values[items]
        logit = CLICK_BIAS + 2.0 * matches(values, intent.wants) + 0.4 * self.catalogue.quality[items]
        logit += 1.3 * self.shoppers.liking(user, values)
        logit -= np.isin(items, self._known(user, second))
        logit -= 4.0 * (self.catalogue.category[items] != intent.category)
        if intent.exact:
            logit = np.where(items == intent.target, logit + FINDING, logit - 1.5)
        probability: Floats = 1 / (1 + np.exp(-logit))
        return probability

    def conversion(self, user: int, items: Ints) -> Floats:
        """Probability that the shopper buys each of `items` once it is clicked. It draws nothing."""
        purse = self.shoppers.taste[user][self.catalogue.values[items, COLUMN["Price"]]]
        probability: Floats = 1 / (1 + np.exp(-(PURCHASE_BIAS + purse + 0.7 * self.catalogue.quality[items])))
        return probability

    def _remember(self, search: Search) -> None:
        for item in search.clicked:
            bisect.insort(self.past[search.user], (search.second, int(item)))
        np.add.at(self.counted[search.user], self.catalogue.values[search.clicked], 1)
        self.counted[search.user, -1] = 0  # an absent value is no habit

    def _pool(self, entity: int, day: int) -> Ints:
        if (entity, day) not in self._pools:
            items = np.flatnonzero(self.catalogue.values[:, COLUMN["Entity"]] == entity)
            self._pools[entity, day] = self.catalogue.on_sale(items, day)
        return self._pools[entity, day]

    def _popularity(self, items: Ints, day: int) -> Floats:
        popularity = self.catalogue.popularity
        week: Floats = popularity[min(day // 7, len(popularity) - 1)]
        return week[items]


def plan(shoppers: Shoppers, config: Marketplace, rng: np.random.Generator) -> tuple[Ints, Floats, Ints]:
    """Who comes when and for how many searches: users [S], start seconds [S] ascending, lengths [S]."""
    lengths = rng.choice(len(SESSION_LENGTHS), config.num_searches, p=SESSION_LENGTHS) + 1
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), config.num_searches)) + 1]
    lengths[-1] -= lengths.sum() - config.num_searches
    warm = np.flatnonzero(~shoppers.cold)
    activity = shoppers.activity[warm] / shoppers.activity[warm].sum()
    num_more = max(len(lengths) - config.num_users, 0)
    # Everyone comes once; the rest is divided by activity. Cold shoppers come late, and once.
    users = np.concatenate([np.arange(config.num_users), rng.choice(warm, num_more, p=activity)])[: len(lengths)]
    starts = _moments(len(users), config, rng)
    cold = shoppers.cold[users]
    starts[cold] = config.late + (starts[cold] / config.seconds) * (config.seconds - config.late)
    starts = _apart(users, starts)
    order = np.argsort(starts, kind="stable")
    return users[order], starts[order], lengths


def _moments(count: int, config: Marketplace, rng: np.random.Generator) -> Floats:
    """Random seconds of the log, with fewer sessions at night and a peak in the evening."""
    hours = 1.0 + 0.9 * np.sin((np.arange(24) - 10) * np.pi / 12) + np.where(np.arange(24) > 18, 0.6, 0.0)
    hour = rng.choice(24, count, p=hours / hours.sum())
    return rng.integers(config.num_days, size=count) * DAY + hour * 3600 + rng.uniform(0, 3600, count)


def _apart(users: Ints, starts: Floats) -> Floats:
    """Push a shopper's sessions at least GAP seconds apart: one person shops in one session at a time."""
    order = np.lexsort([starts, users])
    owner, pushed = users[order], starts[order]
    rank = np.arange(len(order)) - np.searchsorted(owner, owner)
    span = starts.max() + GAP * len(starts) + 1.0  # keeps shoppers apart in the one running maximum
    pushed = np.maximum.accumulate(pushed - GAP * rank + span * owner) + GAP * rank - span * owner
    apart = np.empty_like(starts)
    apart[order] = pushed
    return apart
