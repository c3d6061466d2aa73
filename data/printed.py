"""Tables of text on the terminal."""

from collections.abc import Iterable, Sequence


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> None:
    """Columns one under the other, never cut or wrapped: an id that is broken in two is no id."""
    lines = [list(header), *rows] if header else list(rows)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))] if lines else []
    right = set(right)
    for line in lines:
        cells = [
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        print(f"  {'  '.join(cells)}".rstrip())
