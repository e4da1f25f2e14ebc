"""What can be set of the service; light to import, since the command line reads it."""

from dataclasses import dataclass, fields

from onesearch.types import UserError


@dataclass(frozen=True)
class Limits:
    """What one request, and one client, may ask for.

    Args:
        query_length: characters of a query.
        k: items of an answer.
        num_beams: K of a request that asks for its own.
        body_bytes: size of a request's body; that of a filter which is as long as it may be fits, its IDs being UUIDs.
        rate: requests a second of one client in the long run; 0: as many as it likes.
        burst: requests that a client may send at once.
        clients: clients whose rate is remembered.
        events: events of one request.
        filter_names: categories, brands and sellers of a filter, each.
        filter_items: items that a filter allows, and items that it blocks.
    """

    query_length: int = 200
    k: int = 100
    num_beams: int = 256
    body_bytes: int = 131_072
    rate: float = 50.0
    burst: int = 100
    clients: int = 10_000
    events: int = 100
    filter_names: int = 20
    filter_items: int = 1000

    def __post_init__(self) -> None:
        _check(self, "limits", may_be_zero=("rate",))


@dataclass(frozen=True)
class Batching:
    """How searches that wait are answered together.

    Args:
        max_batch: searches of one batch.
        max_wait_ms: how long the first search of a batch waits for others.
        max_queue: searches that wait at most; further ones are refused with 503.
        timeout: seconds after which a search that is not answered is given up with 504.
    """

    max_batch: int = 16
    max_wait_ms: float = 3.0
    max_queue: int = 128
    timeout: float = 15.0

    def __post_init__(self) -> None:
        _check(self, "batching", may_be_zero=("max_wait_ms",))


@dataclass(frozen=True)
class Memory:
    """What is kept in memory while serving; the rest is forgotten, and computed or read again when it is needed.

    Args:
        texts: queries whose SIDs and embeddings are kept, beside those of the fit.
        shoppers: shoppers whose history is kept as the log has it.
        shoppers_with_events: shoppers whose events since then are kept.
        events: events kept of each of them.
        prefixes: SID prefixes whose meaning is kept.
        filters: filters whose items and SIDs are kept; of a million items 20 to 35 MB each where most of them pass, so
            that 32 take about 1 GB.
    """

    texts: int = 50_000
    shoppers: int = 20_000
    shoppers_with_events: int = 100_000
    events: int = 200
    prefixes: int = 50_000
    filters: int = 32

    def __post_init__(self) -> None:
        _check(self, "memory")


def _check(settings: object, name: str, may_be_zero: tuple[str, ...] = ()) -> None:
    """Refuse what is below 1, or below 0 where nothing has a meaning.

    Raises:
        UserError: it names the field.
    """
    for field in fields(settings):  # type: ignore[arg-type]  # one of the three above
        value, zero = getattr(settings, field.name), field.name in may_be_zero
        if value < 0 or (value == 0 and not zero):
            raise UserError(f"{name}.{field.name} is {value}: it must be {'0 or more' if zero else 'above 0'}.")
