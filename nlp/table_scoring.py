"""Any table with a column of texts, scored: all its rows and columns in their order, and ours behind them.

The output grows in parts in a hidden folder beside it, `.NAME.parts/`, each written under a temporary name and then
renamed; `state.json` says what they belong to and how far they go. A run that was killed goes on behind the last whole
part, if input, model and flags are what they were. At the end the parts become one file, and the folder goes.

CSV output is safe to open in a spreadsheet: a text cell that begins with = + - @, a tab or a line break, and is no
number, gets a leading apostrophe (https://owasp.org/www-community/attacks/CSV_Injection). Parquet is left as it is.
"""

import base64
import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from tqdm import tqdm

from data.atomic import atomic_file, write_json
from data.dataset import open_dataset
from data.errors import UserError
from data.parts import STATE, parts_folder
from data.spreadsheet import safe
from nlp.files import Chunk, Table, open_table

CHUNK_ROWS = 2_000  # rows of a part: enough to make batches of equal length, and seconds of work
PROBLEM = "problem"
EMPTY = "empty text"
UNFAMILIAR = "not in a language the model knows"
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_GROUP_BYTES = 16 << 20  # of a row group of Parquet output
_HEAD_BYTES = 1 << 20

_WORD = re.compile(r"[^\W\d_]+")
_LETTER = re.compile(r"[^\W\d_]")
_OTHER_LETTER = re.compile(r"[^\W\d_A-Za-zª-ɏḀ-ỿ]")  # of a script that is not Latin
# Words that hold a sentence together, and that are no words or names in English.
_ENGLISH, _OTHERS = (
    frozenset(words.split())
    for words in (
        "the of and to that this was with for it but are be her his he you not have has by from",
        "el los las una que y con para es muy pero como película est et dans pas qui ce cette sur avec très mais je "
        "der das und ist nicht ein eine mit auf von zu sehr aber auch ich für che di è sono della questo molto gli não "
        "uma é muito filme com você het een van niet dat maar ook deze och att det är inte som på ikke jeg og er nie "
        "jest się ale bardzo bir ve çok bu filmi için ama değil yang dan ini tidak itu dengan sangat untuk și este",
    )
)


class Scorer(Protocol):
    """What knows texts: `score` gives a row of any columns for each text; `flags` are what its scores depend on."""

    @property
    def run_id(self) -> str: ...

    @property
    def flags(self) -> dict[str, Any]: ...

    def score(self, texts: Sequence[str]) -> pa.Table: ...


@dataclass
class State:
    """What the parts of an output belong to (`key`), and how far they go."""

    key: dict[str, Any]
    parts: int = 0
    bytes: int = 0  # of all parts
    rows: int = 0
    escaped: int = 0  # cells with a leading apostrophe
    problems: dict[str, int] = field(default_factory=dict)  # rows by reason


def score_file(
    path: Path,
    text_column: str,
    out: Path,
    run: Path | None = None,
    dataset: str | None = None,
    limit: int | None = None,
    progress: bool = True,
    scorer: Scorer | None = None,
    **settings: Any,
) -> Path:
    """Score a CSV, TSV or Parquet file of any size into a copy with the scorer's columns and `problem`.

    A column of the file that has the name of one of ours keeps it; ours is then called `label_predicted` and so on.
    `problem` is empty, or says why a row has no score (it cannot be read, and stands there as far as it could) or what
    to think of beside one (no text, a language that the model does not know).

    Args:
        path: a .csv or .txt (any usual separator), .tsv or .parquet file.
        text_column: the column that holds the texts; a missing text is neutral.
        out: a .csv, .tsv or .parquet file.
        run: the run to use; default `nlp.scorer.find_current(dataset)`.
        dataset: where its catalogue is, if it has one, reviews are linked to its titles.
        limit: score and write the first so many rows only; None does all.
        scorer: used instead of `nlp.scorer.TableScorer`.
        settings: of that one: what to write beside the sentiment, and how.

    Raises:
        UserError: a file cannot be read or written as what its name says, the column is missing (the sentence names
            those that there are), there is no trained model, or another run is writing `out`.
    """
    if dataset is not None:
        open_dataset(dataset)
    kind = out.suffix.lower()
    if kind not in (*_SEPARATORS, ".parquet"):
        raise UserError(f"--out {out}: give a name that ends in .csv, .tsv or .parquet.")
    if out.exists() and path.exists() and out.samefile(path):
        raise UserError(f"--out {out} is --input itself: give another name.")
    table = open_table(path, text_column)
    with parts_folder(out) as folder:
        scorer = scorer or _trained(run, dataset, settings)
        flags = {"text_column": text_column, "limit": limit, **scorer.flags}
        key = {"input": _identity(path), "run": scorer.run_id, "flags": flags}
        state = _earlier(folder, key, kind)
        try:
            _score(table, text_column, folder, kind, state, scorer, limit, progress)
        except KeyboardInterrupt:
            told = f"Interrupted after {state.rows:,} rows: the same command goes on from there." if state.rows else ""
            raise KeyboardInterrupt(told) from None
        _join([_part(folder, i, kind) for i in range(state.parts)], folder / "joined", kind)
        (folder / "joined").replace(out)
    print(_summary(state))
    return out


def _trained(run: Path | None, dataset: str | None, settings: dict[str, Any]) -> Scorer:
    from nlp.scorer import TableScorer  # torch: only after mistakes in the arguments are told

    return TableScorer.load(run, dataset, **settings)


def _score(
    table: Table,
    text_column: str,
    folder: Path,
    kind: str,
    state: State,
    scorer: Scorer,
    limit: int | None,
    progress: bool,
) -> None:
    left = None if limit is None else limit - state.rows
    if left == 0:
        return
    size = table.path.stat().st_size
    with tqdm(total=size, desc="Texts", unit="B", unit_scale=True, disable=not progress) as bar:
        for chunk in table.chunks(CHUNK_ROWS, state.rows):
            if left is not None:
                chunk = _first(chunk, left)
                left -= len(chunk.texts)
            scored = _scored(chunk, scorer)
            part = _part(folder, state.parts, kind)
            with atomic_file(part) as temporary:
                state.escaped += _write(scored, temporary, kind, header=state.parts == 0)
            state.parts += 1
            state.bytes += part.stat().st_size
            state.rows += len(scored)
            state.problems = _counted(state.problems, scored[-1].to_pylist())
            write_json(folder / STATE, asdict(state))
            bar.update(chunk.position - bar.n)
            if left == 0:
                break
        bar.update(size - bar.n)


def _first(chunk: Chunk, rows: int) -> Chunk:
    return Chunk(chunk.table.slice(0, rows), chunk.texts[:rows], chunk.problems[:rows], chunk.position)


def _scored(chunk: Chunk, scorer: Scorer) -> pa.Table:
    """The chunk's rows with the scorer's columns, null where a row cannot be read, and `problem` as the last."""
    readable = [i for i, problem in enumerate(chunk.problems) if not problem]
    texts = [chunk.texts[i] for i in readable]
    scores = scorer.score(texts)
    problems = list(chunk.problems)
    for i, text in zip(readable, texts, strict=True):
        problems[i] = "" if text.strip() else EMPTY
        if not problems[i] and unfamiliar(text):
            problems[i] = UNFAMILIAR
    if len(readable) < len(problems):
        place = {row: i for i, row in enumerate(readable)}
        scores = scores.take(pa.array([place.get(row) for row in range(len(problems))], pa.int64()))
    table = chunk.table
    ours = [*zip(scores.column_names, scores.columns, strict=True), (PROBLEM, pa.array(problems, pa.string()))]
    for name, column in ours:
        while name in table.column_names:
            name = f"{name}_predicted"
        table = table.append_column(name, column)
    return table


def unfamiliar(text: str) -> bool:
    """Whether a text is not in English, as far as a glance tells: by its letters, else by its commonest words.

    Doubt counts for English: a few words without a "the" or "und" among them are not told apart.

    >>> [unfamiliar(text) for text in ("Добрый фильм", "Der Film ist nicht gut", "La Dolce Vita", "a dull film", "🙂")]
    [True, True, False, False, False]
    """
    text = text[:1_000]
    if not text.isascii():
        others = len(_OTHER_LETTER.findall(text))
        if others and 2 * others > len(_LETTER.findall(text)):
            return True
    words = _WORD.findall(text.lower())
    found = [word for word in words if word in _OTHERS]
    return len(set(found)) >= 2 and 10 * len(found) >= len(words) and len(found) > sum(w in _ENGLISH for w in words)


def _identity(path: Path) -> dict[str, Any]:
    status = path.stat()
    with path.open("rb") as file:
        head = hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()
    return {"path": str(path.resolve()), "bytes": status.st_size, "modified_ns": status.st_mtime_ns, "head": head}


def _part(folder: Path, number: int, kind: str) -> Path:
    return folder / f"{number:06d}{kind}"


def _earlier(folder: Path, key: dict[str, Any], kind: str) -> State:
    """The state to go on from; what belongs to anything else, or is damaged, is deleted. Says which."""
    if not (folder / STATE).exists():
        _clear(folder)
        return State(key)
    try:
        state = State(**json.loads((folder / STATE).read_text("utf-8")))
        changed = [name for name in key if state.key.get(name) != key[name]]
        whole = sum(_part(folder, i, kind).stat().st_size for i in range(state.parts)) == state.bytes
    except (ValueError, TypeError, AttributeError, FileNotFoundError):
        changed, whole = [], False
    if whole and not changed:
        print(f"Going on after {state.rows:,} rows.")
        return state
    what = {"input": "the input", "run": "the model", "flags": "a flag"}
    why = f"{' and '.join(what[name] for name in changed)} changed" if changed else "what it left is damaged"
    print(f"Beginning anew: an earlier run did not finish, and {why}.")
    _clear(folder)
    return State(key)


def _clear(folder: Path) -> None:
    (folder / STATE).unlink(missing_ok=True)  # first: parts without a state are nothing
    for file in folder.iterdir():
        if file.name != "lock":
            file.unlink()


def _write(table: pa.Table, path: Path, kind: str, header: bool) -> int:
    """Write a part; returns how many cells had to be made safe."""
    if kind == ".parquet":
        pq.write_table(table.rename_columns(_distinct(table.column_names)), path)
        return 0
    columns, escaped = [], 0
    for column in table.columns:
        column, n_escaped = safe(_plain(column))
        columns.append(column)
        escaped += n_escaped
    names, n_escaped = safe(pa.chunked_array([pa.array(table.column_names, pa.string())]))
    with path.open("wb") as file:
        options = pyarrow.csv.WriteOptions(include_header=header, delimiter=_SEPARATORS[kind])
        pyarrow.csv.write_csv(pa.table(columns, names=names.to_pylist()), file, options)
    return escaped + (n_escaped if header else 0)


def _distinct(names: list[str]) -> list[str]:
    """The names, the second `a` as `a.1` and so on: Parquet files with equal ones cannot be read by most."""
    found: list[str] = []
    for name in names:
        number, free = 0, name
        while free in found or (number and free in names):
            number += 1
            free = f"{name}.{number}"
        found.append(free)
    return found


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as CSV can hold it: lists and records as JSON, bytes as text or base64; numbers stay."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind):
        return column
    as_text: Callable[[Any], str] = _json if pa.types.is_nested(kind) else _text
    values = column.to_pylist()
    return pa.chunked_array([pa.array([None if value is None else as_text(value) for value in values], pa.string())])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_text)


def _text(value: Any) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _join(parts: list[Path], path: Path, kind: str) -> None:
    if kind == ".parquet":
        _join_parquet(parts, path)
        return
    with path.open("wb") as target:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)


def _join_parquet(parts: list[Path], path: Path) -> None:
    """One file with larger row groups. A column that held nothing in one part gets its type from the others."""
    schema = pq.read_schema(parts[0])
    for part in parts[1:]:
        schema = pa.unify_schemas([schema, pq.read_schema(part)], promote_options="permissive")
    held: list[pa.Table] = []
    with pq.ParquetWriter(path, schema) as writer:
        for i, part in enumerate(parts):
            with pq.ParquetFile(part) as file:
                held.append(file.read().cast(schema))
            if i == len(parts) - 1 or sum(table.nbytes for table in held) > _GROUP_BYTES:
                writer.write_table(pa.concat_tables(held))
                held = []


def _counted(so_far: dict[str, int], problems: list[str]) -> dict[str, int]:
    kinds = ("a wrong number of fields" if " instead of " in problem else problem for problem in problems if problem)
    return dict(Counter(so_far) + Counter(kinds))


def _summary(state: State) -> str:
    told = f"{state.rows:,} rows"
    if state.problems:
        reasons = ", ".join(f"{reason}: {n:,}" for reason, n in Counter(state.problems).most_common())
        told += f", of which {sum(state.problems.values()):,} have a problem ({reasons})"
    if state.escaped:
        cells = "1 cell" if state.escaped == 1 else f"{state.escaped:,} cells"
        told += f"; {cells} that a spreadsheet would take for a formula got a leading apostrophe"
    return f"{told}."
