"""Text that a spreadsheet would run as a formula, made harmless before it goes into a CSV file."""

import pyarrow as pa
import pyarrow.compute as pc

_FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def safe(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, int]:
    """The column with an apostrophe before every text that a spreadsheet would run, and how many there are.

    See https://owasp.org/www-community/attacks/CSV_Injection. Columns that hold no text are left as they are.
    """
    if pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    if not pa.types.is_string(column.type):
        return column, 0
    if pc.any(pc.match_substring(column, "\0")).as_py():
        column = pc.replace_substring(column, "\0", "\ufffd")  # few programs read a file with null bytes
    risky = pc.and_not(pc.match_substring_regex(column, _FORMULA), pc.match_substring_regex(column, _NUMBER))
    n_risky = pc.sum(risky).as_py() or 0
    return (pc.if_else(risky, pc.binary_join_element_wise("'", column, ""), column) if n_risky else column), n_risky
