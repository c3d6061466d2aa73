"""One chosen file: which of its columns is which of ours, its first rows as they will be read, and what is rejected."""

import html
from pathlib import Path

import pandas as pd
import streamlit as st

from dashboard import page
from dashboard.skeleton import loading
from data import columns
from data.columns import REQUIRED, SYNONYMS, parse_map
from data.errors import UserError
from data.preview import Preview, preview
from data.tablefile import TableFile, open_table

FIRST_ROWS = 8


def show(table: str, name: str, file_id: str, path: Path, max_bad: float, time_format: str) -> list[str] | None:
    """Draw it and return what `--map` is to be given; None while the file cannot be imported as it is.

    Args:
        name: of the file, as the browser has it.
        file_id: changes with the file.
        path: where it is kept.
        max_bad: the share of bad rows that is allowed, 0 to 1.
    """
    with st.container(border=True):
        st.html(
            f'<div style="display:flex;gap:4px 12px;flex-wrap:wrap;align-items:baseline"><strong>{table.capitalize()}'
            f'</strong><span class="mq-muted">{html.escape(name)}</span></div>'
        )
        try:
            file = open_table(path, columns.KNOWN)
            mapping = _selects(table, file, file_id)
            missing = columns.guess(table, file, mapping).missing(table)
            if missing:
                page.notice("warn", f"Say which column is {' and which is '.join(missing)}: {table} need it.")
                return None
            flags = flags_of(table, file, mapping)
            seen = _seen(table, path, file_id, mapping, time_format)
        except UserError as mistake:
            page.notice("warn", _without_paths(str(mistake), path, name))
            return None
        _verdict(seen, max_bad)
        _rows(seen)
        return flags


def _without_paths(sentence: str, path: Path, name: str) -> str:
    """The sentence with the file's own name, in the words of a form."""
    return sentence.replace(str(path), name).replace(path.name, name)


def _selects(table: str, file: TableFile, file_id: str) -> dict[str, str]:
    """Our columns, each with a choice among the file's; the guess stands first. Returns `table.column` to the file's
    column, empty where it is left out."""
    guessed = columns.guess(table, file, {})
    options = ["", *dict.fromkeys(column for column in file.columns if column)]
    chosen = {}
    for place, field in enumerate(SYNONYMS[table]):
        if place % 4 == 0:  # a row of its own, so that a phone, which puts columns one under the other, keeps the order
            across = st.columns(4)
        taken = file.columns[guessed.fields[field]] if field in guessed.fields else ""
        with across[place % 4]:
            column = st.selectbox(
                page.plain(field) + (" · required" if field in REQUIRED[table] else ""),
                options,
                index=options.index(taken) if taken in options else 0,
                format_func=lambda column: _label(column, file),
                key=f"map-{file_id}-{table}-{field}",
            )
        chosen[f"{table}.{field}"] = column or ""
    return chosen


def _label(column: str, file: TableFile) -> str:
    """A column as the list shows it; without a header by its place and first value."""
    if not column:
        return "left out"
    if file.has_header:
        return column
    return f"column {column} ({file.first_row[int(column) - 1][:20]})"


def flags_of(table: str, file: TableFile, mapping: dict[str, str]) -> list[str]:
    """What `--map` is to be given, one column each: only what the guess has otherwise, where that comes to the same.

    Raises:
        UserError: a column's name cannot be written there.
    """
    guessed, wanted = columns.guess(table, file, {}), columns.guess(table, file, mapping)
    differs = {
        name: column
        for name, column in mapping.items()
        if column != (file.columns[guessed.fields[field]] if (field := name.split(".")[1]) in guessed.fields else "")
    }
    short = differs if columns.guess(table, file, differs) == wanted else mapping
    flags = [f"{name}={column}" for name, column in short.items()]
    for flag, (name, column) in zip(flags, short.items(), strict=True):
        if parse_map([flag]) != {name: column}:
            raise UserError(f"A column called '{column}' cannot be named in a mapping: rename it in the file.")
    return flags


def _seen(table: str, path: Path, file_id: str, mapping: dict[str, str], time_format: str) -> Preview:
    """The preview, read again only when something has changed."""
    key = (file_id, str(path), tuple(mapping.items()), time_format)
    kept = st.session_state.setdefault("import-previews", {})
    if table not in kept or kept[table][0] != key:
        with loading("list", "Reading the first rows …"):
            kept[table] = (key, preview(table, path, mapping, time_format=time_format))
    return kept[table][1]


def _verdict(seen: Preview, max_bad: float) -> None:
    report = seen.report
    read = f"All {report.read:,} rows were read" if seen.is_whole else f"The first {report.read:,} rows were read"
    if report.read == 1:
        read = "Its one row was read"
    if not report.rejected:
        page.notice("good", f"{read}: none would be rejected.")
        return
    share = f"{report.rejected:,} would be rejected ({100 * seen.share_bad:.2g} %)"
    if seen.share_bad > max_bad or not report.kept:
        page.notice(
            "warn",
            f"{read}: {share}, which is more than the {100 * max_bad:g} % allowed, so the import would write nothing. "
            "Choose other columns, mend the file, or allow more.",
        )
    else:
        page.notice("none", f"{read}: {share}; they are put aside with line and reason.")


def _rows(seen: Preview) -> None:
    report = seen.report
    if report.rejected:
        st.caption("Why rows would be rejected")
        reasons = sorted(report.reasons.items(), key=lambda item: -item[1])
        page.facts([(f"{n:,} ×", reason) for reason, n in reasons[:6]])
        place = "Row" if report.path.suffix == ".parquet" else "Line"
        st.dataframe(
            pd.DataFrame(seen.rejects, columns=[place, "Why", "What stands there"]),
            hide_index=True,
            height=min(38 + 35 * len(seen.rejects), 248),
            column_config={place: st.column_config.NumberColumn(format="localized", width="small")},
        )
    if len(seen.rows):
        st.caption("The first rows as they will be read" + (": times in UTC" if _has_times(seen.rows) else ""))
        st.dataframe(seen.rows.head(FIRST_ROWS).dropna(axis=1, how="all"), hide_index=True)
    said = [*report.notes, f"not used: {', '.join(c or '(nameless)' for c in report.unused)}" if report.unused else ""]
    if said := [page.plain(note) for note in said if note]:
        st.caption("; ".join(said))


def _has_times(rows: pd.DataFrame) -> bool:
    return any(isinstance(kind, pd.DatetimeTZDtype) for kind in rows.dtypes)
