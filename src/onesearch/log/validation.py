"""One pass over a raw log: what cannot be used is dropped, what can be mended is mended, and all of it is counted.

A log is refused (`LogError`) only where nothing sensible could follow: no items or no searches.
"""

import json
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.log.ragged import Ragged, appended
from onesearch.log.report import LogError, Rejected, Report
from onesearch.log.schema import ACTIONS, GRADES, REQUIRED, SCHEMAS, Array, Column, Tables, complete
from onesearch.log.sources.source import Raw
from onesearch.log.text import normalize_query

_UNIQUE = {"items": "item_id", "users": "user_id", "searches": "search_id"}


class Checked(NamedTuple):
    """A clean log with the account of how it became clean."""

    tables: Tables
    report: Report
    rejected: list[Rejected]


def validate(raw: Raw) -> Checked:
    """Clean the tables of `raw`.

    Raises:
        LogError: a table that is needed has no usable row.
    """
    report = Report(files=dict(raw.files), notes=list(raw.notes))
    for sentence, count in raw.findings.items():
        report.find(sentence, count)
    rejected = list(raw.rejected)
    tables = complete(raw.tables)
    for name in SCHEMAS:
        tables[name] = _usable(name, tables[name], rejected)
    tables["searches"] = _with_keys(tables["searches"], rejected)
    for name in ("items", "searches"):
        if not len(tables[name]):
            raise LogError(
                f"The log has no usable row in '{name}' ({len(rejected):,} records were refused, first: "
                f"{_first(rejected)}): check the files and their columns."
            )
    tables["searches"] = _mend_lists(tables["searches"], tables["items"]["item_id"].combine_chunks(), report)
    tables["events"] = _known_items("events", tables, rejected)
    tables["judgments"] = _known_items("judgments", tables, rejected)
    tables["searches"] = _in_time_order("searches", tables["searches"], report)
    tables["events"] = _in_time_order("events", tables["events"], report)
    _note_unknown_users(tables, report)
    report.reasons.update(record.reason for record in rejected)
    report.rows = {name: len(table) for name, table in tables.items()}
    return Checked(tables, report, rejected)


def _first(rejected: list[Rejected]) -> str:
    return f"{rejected[0].file}, line {rejected[0].line}: {rejected[0].reason}" if rejected else "none"


def _usable(name: str, table: pa.Table, rejected: list[Rejected]) -> pa.Table:
    for column in REQUIRED[name]:
        table = _drop(name, table, pc.is_null(table[column]), f"{name}: null {column}", rejected)
    if name in _UNIQUE:
        table = _drop(name, table, _repeated(table[_UNIQUE[name]]), f"{name}: duplicate {_UNIQUE[name]}", rejected)
    if name == "events":
        wrong = pc.invert(pc.is_in(table["action"], pa.array(ACTIONS)))
        table = _drop(name, table, wrong, "events: action is neither click nor purchase", rejected)
    if name == "judgments":
        wrong = pc.invert(pc.is_in(table["grade"], pa.array(GRADES, pa.int8())))
        table = _drop(name, table, wrong, "judgments: grade is not 0, 1, 2 or 3", rejected)
    return table


def _repeated(column: Column) -> Array:
    codes = np.asarray(column.combine_chunks().dictionary_encode().indices)
    repeated = np.ones(len(codes), bool)
    repeated[np.unique(codes, return_index=True)[1]] = False
    return pa.array(repeated)


def _drop(name: str, table: pa.Table, wrong: Array, reason: str, rejected: list[Rejected]) -> pa.Table:
    """Drop the `wrong` rows and keep them as refused; their line is their row in the table."""
    if not pc.any(wrong).as_py():
        return table
    numbers = pc.indices_nonzero(wrong)
    for number, row in zip(numbers.to_pylist(), table.take(numbers).to_pylist(), strict=True):
        content = json.dumps(row, default=str, ensure_ascii=False).encode()
        rejected.append(Rejected(f"table {name}", number + 1, reason, content))
    return table.filter(pc.invert(wrong))


def _with_keys(searches: pa.Table, rejected: list[Rejected]) -> pa.Table:
    keys = pa.array([normalize_query(str(query)) for query in searches["query"].to_pylist()], pa.string())
    searches = searches.set_column(searches.column_names.index("query_key"), "query_key", keys)
    return _drop(
        "searches", searches, pc.equal(searches["query_key"], pa.scalar("")), "searches: empty query", rejected
    )


def _mend_lists(searches: pa.Table, item_ids: Array, report: Report) -> pa.Table:
    """Only known items, each once a list; purchased ⊂ clicked ⊂ impressed wherever these are recorded."""
    columns = {
        name: _known_once(name, Ragged(searches[name], item_ids), item_ids, report)
        for name in ("impressed", "clicked", "purchased")
    }
    columns["clicked"].nulls[:] = False  # without a recorded click a search has none: no reader must meet a null
    columns["clicked"] = _contain(columns, "clicked", "purchased", item_ids, report)
    columns["impressed"] = _contain(columns, "impressed", "clicked", item_ids, report)
    for name, ragged in columns.items():
        field = SCHEMAS["searches"].field(name)
        searches = searches.set_column(searches.column_names.index(name), field, ragged.column())
    return searches


def _known_once(name: str, ragged: Ragged, item_ids: Array, report: Report) -> Ragged:
    known = ragged.codes >= 0
    report.find(f"{name} items that are not in the items table: dropped (of {len(known):,})", int((~known).sum()))
    repeated = known & ~ragged.first_of_each(len(item_ids))
    report.find(f"{name} items listed twice in one search: kept once", int(repeated.sum()))
    return Ragged(ragged.keep(known & ~repeated), item_ids)


def _contain(columns: dict[str, Ragged], outer: str, inner: str, item_ids: Array, report: Report) -> Ragged:
    large, small = columns[outer], columns[inner]
    missing = ~small.among(large, len(item_ids)) & ~large.nulls[small.rows]
    report.find(f"{inner} but not {outer}: added to {outer}", int(missing.sum()))
    return Ragged(appended(large, small, missing), item_ids)


def _known_items(name: str, tables: Tables, rejected: list[Rejected]) -> pa.Table:
    known = pc.is_in(tables[name]["item_id"], tables["items"]["item_id"].combine_chunks())
    return _drop(name, tables[name], pc.invert(known), f"{name}: unknown item", rejected)


def _in_time_order(name: str, table: pa.Table, report: Report) -> pa.Table:
    times = np.asarray(table["time"].cast(pa.int64()))
    report.find(f"{name} whose time is before that of the row above: sorted", int((np.diff(times) < 0).sum()))
    return table.take(np.argsort(times, kind="stable"))


def _note_unknown_users(tables: Tables, report: Report) -> None:
    for name in ("searches", "events"):
        users = tables[name]["user_id"]
        unknown = pc.and_(pc.is_valid(users), pc.invert(pc.is_in(users, tables["users"]["user_id"].combine_chunks())))
        report.find(
            f"{name} by users who are not in the users table: kept, without profile", pc.sum(unknown).as_py() or 0
        )
