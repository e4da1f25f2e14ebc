"""Preference lists as columns: rewards and weights of all of them at once.

r(q,i) = 2λ·Ctr·Cvr/(Ctr + Cvr),  w_l = clip(1/(r(q,i_w) − r(q,i_l)), 0, w_max): see `losses`.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesearch.log.counts import PairCounts
from onesearch.losses import LEVEL_WEIGHTS, adaptive_reward, reward_gap_weight
from onesearch.metrics.preference_gate import PairColumns
from onesearch.tasks.preference import PreferenceList


def rewards(
    counts: PairCounts, queries: Sequence[str], items: NDArray[np.int64], levels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The adaptive reward r(q,i) of each row of three columns, [n]; λ/2 where nothing was counted.

    Args:
        counts: exposures, clicks and orders of (query, item), before the test boundary.
        queries: normalised, [n].
        items: rows, [n].
        levels: of each item for its search, 0 for L1 to 5 for L6, [n].
    """
    n_pos, n_clk, n_ord = counts.total(queries, items).T.astype(np.float64)
    found = adaptive_reward(*map(torch.from_numpy, (np.take(LEVEL_WEIGHTS, levels), n_pos, n_clk, n_ord)))
    result: NDArray[np.float64] = found.numpy()
    return result


def list_table(
    lists: Sequence[PreferenceList],
    reference: Tensor,
    counts: PairCounts,
    item_ids: Sequence[str],
    max_weight: float,
    invalid: Sequence[NDArray[np.int64]] = (),
) -> pa.Table:
    """One row a list, as the artefact holds it.

    A SID that no item has weighs the most that a pair can: nothing is worse than what nobody can be shown. Soft lists
    have no weights, and no rewards by counts: their shares say it all.

    Args:
        lists: B lists, each with a rejected item.
        reference: log-probabilities under the reference, the chosen item's first, those of SIDs that no item has last,
            [B, 1 + X]; padding is not read.
        counts: of (query, item).
        item_ids: of the item rows.
        max_weight: w_max.
        invalid: B times SIDs that no item has, [Y, C] each, to be rejected as well; (): none at all.
    """
    sizes = np.array([1 + len(one.rejected) for one in lists])
    items = np.array([item for one in lists for item in (one.chosen, *one.rejected)], np.int64)
    levels = np.array([level for one in lists for level in one.levels], np.int64)
    queries = [one.context.query for one, size in zip(lists, sizes, strict=True) for _ in range(size)]
    reward = rewards(counts, queries, items, levels)
    starts = np.cumsum(sizes) - sizes
    is_rejected = np.ones(len(items), bool)
    is_rejected[starts] = False
    of_chosen = np.repeat(reward[starts], sizes)
    weights = reward_gap_weight(torch.from_numpy(of_chosen), torch.from_numpy(reward), max_weight).numpy()
    is_soft = pa.array([bool(one.shares) for one in lists])
    num_invalid = np.array([len(sids) for sids in invalid] or [0] * len(lists))
    places, all_logs = np.arange(reference.shape[1]), reference.double().numpy()
    logs = all_logs[places < sizes[:, None]]
    logs_invalid = all_logs[(places >= sizes[:, None]) & (places < (sizes + num_invalid)[:, None])]
    names = pa.array(item_ids).take(pa.array(items))
    everything, rejected, unheard = _offsets(sizes), _offsets(sizes - 1), _offsets(num_invalid)
    return pa.table(
        {
            "search_id": [one.context.search_id for one in lists],
            "chosen": names.take(pa.array(starts)),
            "reference_chosen": logs[starts],
            "rejected": pa.ListArray.from_arrays(rejected, names.filter(pa.array(is_rejected))),
            "reference_rejected": pa.ListArray.from_arrays(rejected, logs[is_rejected]),
            "weights": pa.ListArray.from_arrays(rejected, weights[is_rejected], mask=is_soft),
            "shares": pa.array([list(one.shares) or None for one in lists], pa.list_(pa.float64())),
            "levels": pa.ListArray.from_arrays(everything, levels),
            "rewards": pa.ListArray.from_arrays(everything, reward, mask=is_soft),
            "invalid": pa.array([sids.tolist() for sids in invalid] or [[]] * len(lists), _SIDS),
            "reference_invalid": pa.ListArray.from_arrays(unheard, logs_invalid),
            "invalid_weight": pa.array([None if one.shares else max_weight for one in lists], pa.float64()),
        }
    )


_SIDS = pa.list_(pa.list_(pa.int64()))


def _offsets(sizes: NDArray[np.int64]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())


def pair_columns(table: pa.Table) -> PairColumns:
    """Every rejected item of a table of lists beside its chosen one; rewards and weights where every list has them."""
    sizes = np.array([len(items) for items in table["rejected"]])
    numbers = np.repeat(np.arange(len(table)), sizes)
    logs = table["reference_chosen"].to_numpy()[numbers], _flat(table["reference_rejected"])
    if table["weights"].null_count:
        return PairColumns(numbers, None, None, *logs)
    reward = _flat(table["rewards"])
    starts = np.cumsum(sizes + 1) - sizes - 1
    is_rejected = np.ones(len(reward), bool)
    is_rejected[starts] = False
    return PairColumns(numbers, reward[starts][numbers] - reward[is_rejected], _flat(table["weights"]), *logs)


def _flat(lists: pa.ChunkedArray) -> NDArray[np.float64]:
    values: NDArray[np.float64] = lists.combine_chunks().flatten().to_numpy()
    return values
