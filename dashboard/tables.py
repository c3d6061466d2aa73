"""Tables that sort, search and download, by Streamlit's own toolbar; on a phone, where one would be cut off, cards."""

import html
from collections.abc import Mapping

import pandas as pd
import pyarrow as pa
import streamlit as st

from data.as_csv import rounded_csv

CARDS = 10  # on a phone; the file has all
_ROW, _FRAME = 36, 4  # pixels


def table(
    frame: pd.DataFrame,
    key: str,
    said: str,
    *,
    formats: Mapping[str, str] | None = None,
    widths: Mapping[str, int] | None = None,
    height: int = 420,
    row_height: int = _ROW,
) -> None:
    """Draw `frame`; its first column names the row.

    Args:
        key: of the table, also the name of its file.
        said: what the table holds, for those who do not see it.
        formats: how the numbers of a column are shown, such as "%.0f days ago" or "localized".
        widths: of columns, in pixels.
        height: at most, in pixels; beyond it rows scroll.
        row_height: in pixels; text breaks into as many lines as there is room for.
    """
    formats, widths = formats or {}, widths or {}
    config = {
        str(name): st.column_config.NumberColumn(format=formats.get(str(name)), width=widths.get(str(name)))
        if pd.api.types.is_numeric_dtype(frame[name])
        else st.column_config.TextColumn(width=widths.get(str(name)))
        for name in frame
    }
    with st.container(key=f"table-{key}"):
        st.dataframe(
            frame,
            hide_index=True,
            height=min(_ROW + row_height * len(frame) + _FRAME, height),
            row_height=row_height,
            column_config=config,
            alt=said,
        )
    with st.container(key=f"cards-{key}"):
        st.html(cards(frame, said, formats))
        st.download_button(
            f"All {len(frame):,} as CSV" if len(frame) > CARDS else "As CSV",
            rounded_csv(pa.Table.from_pandas(frame, preserve_index=False)),
            file_name=f"{key}.csv",
            mime="text/csv",
            icon=":material/download:",
            key=f"download-{key}",
        )


def cards(frame: pd.DataFrame, said: str, formats: Mapping[str, str]) -> str:
    """The first rows as a list: the first column as a name, the others under it."""
    texts = frame.head(CARDS).apply(lambda column: column.map(lambda value: _text(value, formats.get(column.name, ""))))
    rows = []
    for first, *others in texts.itertuples(index=False):
        facts = "".join(
            f"<dt>{html.escape(str(name))}</dt><dd>{html.escape(text)}</dd>"
            for name, text in zip(texts.columns[1:], others, strict=True)
            if text
        )
        rows.append(f"<li><b>{html.escape(first)}</b><dl class='mq-facts'>{facts}</dl></li>")
    return f"<ul class='mq-list' aria-label='{html.escape(said)}'>{''.join(rows)}</ul>"


def _text(value: object, form: str) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    if form == "localized":
        return f"{value:,}"
    return form % value if form else str(value)
