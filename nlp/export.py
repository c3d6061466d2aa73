"""Which engine (nlp/engines.py) reads quickest on this machine, measured, and ONNX graphs made for it.

`export` runs the engines on a sample of real texts, in turn, so that whatever else the machine does hits all alike.
Eligible is what decides like float32 (`MOST_LOST`, `MOST_MEAN_DIFFERENCE`); the eligible engine with the most tokens a
second goes into the run. A text that changes sides costs what float32's calibrated probability says: one at p = 0.52
was right four times in a hundred more often as it was. So accuracy lost is measured without a label, which after the
refit on everything no unseen text would have.

In the graph an attention is one operator (com.microsoft MultiHeadAttention): as PyTorch exports it, an eighth of the
8-bit time goes into masks and copies.
"""

import copy
import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from data import command, report, runs
from data.atomic import atomic_folder, write_json
from data.dataset import open_dataset, read_parquet
from data.errors import UserError
from data.schema import TEXT
from data.served import load_served
from nlp import encoder as encoders
from nlp.aspects import AspectFinder
from nlp.calibration import join, probability
from nlp.engines import (
    BATCH_TOKENS,
    CHOICE,
    ENGINES,
    GRAPH,
    GRAPH_ATTENTION,
    Engine,
    TokenOutputs,
    cpu_kind,
    fingerprint,
    graph_mask,
    installed,
    onnx_engine,
    token_outputs,
    torch_engine,
    torch_name,
    window_logits,
    with_aspects,
)
from nlp.sentiment import SentimentModule
from nlp.tokens import Windows, batches_by_length, cut, frame_of, pad, tokenise

Rows = dict[str, dict[str, Any]]  # engine to what was measured of it

MOST_LOST = 0.003  # accuracy, mean over all texts of |2p - 1| where the other side of 0.5 is taken
MOST_MEAN_DIFFERENCE = 0.02  # of p(positive)
_LEAST_OUTPUTS = 32  # a head is narrower: nothing to gain, and its error goes straight into the logit
_SEED, _TIMED_BATCHES, _CHARACTERS_PER_TOKEN = 42, 12, 8
# After a fit: so many tokens are read; if that takes a tiny encoder less than so long, nothing else is measured.
_FRESH_TOKENS, _FRESH_BATCHES, _WORTH_SECONDS = 20_000, 4, 1.0


class _Sample(NamedTuple):
    batches: list[tuple[Tensor, Tensor]]  # ids and mask
    text: list[np.ndarray]  # of each of a batch's windows, counted from 0
    served: Callable[[np.ndarray], np.ndarray]  # from the encoder's logits of the texts to the probabilities served


def export(
    module: SentimentModule, run: Path, texts: Sequence[str], seconds: float = 10.0, most_tokens: int = 60_000
) -> Rows:
    """Measure the engines on a seeded sample of `texts` and write the best into `run`.

    Args:
        module: the served model, on the CPU.
        run: its folder, with the tokenizer; `engine.json` is written there, and `onnx/model.onnx` if it won.
        seconds: for so long each engine is timed; warming up and comparing come on top of that.
        most_tokens: size of the sample.

    Returns:
        For each engine `tokens_per_second`, `speed` (in those of torch-float32), `max_difference` and
        `mean_difference` (of p(positive) from torch-float32's), `changed` (share of texts on the other side of 0.5),
        `lost` (see `MOST_LOST`), `max_aspect_difference` (of a token's probability), `eligible`, `chosen` - or
        `reason`, why it cannot run.

    Raises:
        UserError: no texts.
    """
    return _measured(module, run, _sample(module, run, texts, most_tokens), seconds, _TIMED_BATCHES)


def _measured(module: SentimentModule, run: Path, sample: _Sample, seconds: float, timed_batches: int) -> Rows:
    batches, text, served = sample
    outputs = token_outputs(module)
    with tempfile.TemporaryDirectory(dir=run) as folder:
        engines, reasons = engines_of(outputs, Path(folder))
        rows: Rows = {name: {"reason": reasons[name]} if name in reasons else {} for name in ENGINES}
        _compare(engines, batches, text, served, rows)
        _time(engines, batches[:: max(1, len(batches) // timed_batches)], seconds, rows)
        best = max((n for n in engines if rows[n]["eligible"]), key=lambda n: rows[n]["tokens_per_second"])
        for name in engines:
            rows[name]["chosen"] = name == best
        if best.startswith("onnx"):
            with atomic_folder(run / GRAPH) as target:
                (Path(folder) / f"{best}.onnx").rename(target / "model.onnx")
    size = {"texts": int(np.concatenate(text).max()) + 1, "tokens": int(sum(mask.sum() for _, mask in batches))}
    content = {"engine": best, "weights": fingerprint(outputs), "cpu": cpu_kind(), "threads": torch.get_num_threads()}
    write_json(run / CHOICE, report.jsonable({**content, "sample": size, "measured": rows}))
    if not best.startswith("onnx"):
        shutil.rmtree(run / GRAPH, ignore_errors=True)  # an earlier export's
    return rows


def keep_quickest(run: Path, texts: Sequence[str]) -> Rows:
    """What `export` does, in a fraction of its time, for a fresh run; {} on a GPU or if reading takes no time."""
    module = with_aspects(load_served(SentimentModule, run, "auto"), AspectFinder.load(run))
    if module.device.type != "cpu":
        return {}
    sample, engine = _sample(module, run, texts, _FRESH_TOKENS), torch_engine(token_outputs(module), torch_name())
    started = time.perf_counter()
    for ids, mask in sample.batches:
        engine(ids, mask)
    if time.perf_counter() - started < _WORTH_SECONDS:
        return {}
    rows = _measured(module, run, sample, 0.0, _FRESH_BATCHES)
    best = next(name for name, row in rows.items() if row.get("chosen"))
    print(f"Reviews are read with {best}, {rows[best]['speed']:.1f} times as quickly as with torch-float32.")
    return rows


def _sample(module: SentimentModule, run: Path, texts: Sequence[str], most_tokens: int) -> _Sample:
    """A seeded sample of `texts`; what is served of them has the n-grams, the joint and the temperature in it."""
    said = [text for text in texts if text and text.strip()]
    if not said:
        raise UserError("There is no text to measure the engines with: name a dataset with reviews (--data.dataset).")
    tokenizer = encoders.tokenizer_of(run)
    frame = frame_of(tokenizer)
    order = np.random.default_rng(_SEED).permutation(len(said))
    characters = np.cumsum([len(said[i]) for i in order])
    order = order[: 1 + np.searchsorted(characters, _CHARACTERS_PER_TOKEN * most_tokens)]  # and no more tokenised
    tokens = tokenise(tokenizer, [said[i] for i in order])
    fitting = max(1, int(np.searchsorted(tokens.offsets[1:], most_tokens, "right")))
    windows = cut(tokens.lengths[:fitting], int(module.hparams["max_tokens"]) - frame.size)
    batches, text = [], []
    for index in batches_by_length(windows.length + frame.size, BATCH_TOKENS):
        chosen = Windows(windows.text[index], windows.start[index], windows.length[index])
        batches.append(pad(tokens, chosen, frame))
        text.append(chosen.text)
    lengths = tokens.lengths[:fitting]
    bag = 0.0 if module.bag is None else module.bag.logits(tokens, np.arange(fitting))

    def served(encoder: np.ndarray) -> np.ndarray:
        joined = join(encoder, bag, lengths, float(module.mix), *module.slopes.tolist())
        return probability(joined, float(module.temperature))

    return _Sample(batches, text, served)


def _compare(
    engines: dict[str, Engine],
    batches: list[tuple[Tensor, Tensor]],
    text: list[np.ndarray],
    served: Callable[[np.ndarray], np.ndarray],
    rows: Rows,
) -> None:
    """Every engine over the whole sample once, which also warms it up; how it differs goes into `rows`."""
    of_window = np.concatenate(text)
    reference: tuple[np.ndarray, list[Tensor | None]] | None = None
    for name, engine in engines.items():
        found = [engine(ids, mask) for ids, mask in batches]
        means = [window_logits(logits, mask) for (logits, _), (_, mask) in zip(found, batches, strict=True)]
        logit = np.bincount(of_window, torch.cat(means).double().numpy()) / np.bincount(of_window)  # (texts,)
        p, aspects = served(logit), [aspect for _, aspect in found]
        reference = reference or (p, aspects)
        difference = np.abs(p - reference[0])
        apart = [
            float((torch.sigmoid(ours) - torch.sigmoid(theirs))[mask].abs().max())
            for ours, theirs, (_, mask) in zip(aspects, reference[1], batches, strict=True)
            if ours is not None and theirs is not None
        ]
        changed, mean = (p > 0.5) != (reference[0] > 0.5), float(difference.mean())
        lost = float((np.abs(2 * reference[0] - 1) * changed).mean())
        rows[name] |= {
            "changed": float(changed.mean()),
            "lost": lost,
            "mean_difference": mean,
            "max_difference": float(difference.max()),
            "max_aspect_difference": max(apart, default=None),
            "eligible": lost <= MOST_LOST and mean <= MOST_MEAN_DIFFERENCE,
        }


def _time(engines: dict[str, Engine], chosen: list[tuple[Tensor, Tensor]], seconds: float, rows: Rows) -> None:
    """Tokens a second: each batch by all engines in turn, round after round; the quickest round of a batch counts."""
    best = {name: np.full(len(chosen), np.inf) for name in engines}
    until = time.perf_counter() + seconds * len(engines)
    for round_ in range(1_000):
        for i, (ids, mask) in enumerate(chosen):
            for name, engine in engines.items():
                started = time.perf_counter()
                engine(ids, mask)
                best[name][i] = min(best[name][i], time.perf_counter() - started)
        if round_ and time.perf_counter() > until:
            break
    tokens = float(sum(mask.sum() for _, mask in chosen))
    for name in engines:
        rows[name]["tokens_per_second"] = tokens / float(best[name].sum())
        rows[name]["speed"] = float(best["torch-float32"].sum() / best[name].sum())


# -- ONNX --------------------------------------------------------------------------------------------------------


def engines_of(outputs: TokenOutputs, folder: Path) -> tuple[dict[str, Engine], dict[str, str]]:
    """All engines that this machine can run, and for the others the reason why it cannot.

    Args:
        outputs: on the CPU.
        folder: gets the graphs, by engine: `onnx-int8.onnx`.
    """
    engines, reasons = {"torch-float32": torch_engine(outputs)}, {}
    if encoders.bfloat16_pays():
        engines["torch-bfloat16"] = torch_engine(outputs, "torch-bfloat16")
    else:
        reasons["torch-bfloat16"] = "this CPU has no bfloat16 products"
    paths = {name: folder / f"{name}.onnx" for name in ENGINES if name.startswith("onnx")}
    if not installed("onnx", "onnxscript", "onnxruntime"):
        return engines, reasons | dict.fromkeys(paths, "it needs 'pip install onnx onnxscript onnxruntime'")
    try:
        write_graph(outputs, paths["onnx-float32"])
        _to_int8(paths["onnx-float32"], paths["onnx-int8"])
        engines |= {name: onnx_engine(path) for name, path in paths.items()}
    except Exception as failure:  # the exporter raises whatever an architecture makes it stumble over
        reason = f"{type(failure).__name__}: {str(failure).strip().splitlines()[0][:160]}"
        reasons |= dict.fromkeys(paths, reason)
    return engines, reasons


def write_graph(outputs: TokenOutputs, path: Path) -> None:
    """Write `outputs` as a float32 ONNX graph that takes any number of windows and tokens.

    Attentions become one operator each where the architecture lets us put it there and the result is the same.

    Raises:
        Exception: torch.onnx cannot export this architecture, or the graph says something else than the network.
    """
    alone = copy.deepcopy(outputs).cpu().eval()
    try:
        _register_attention()
        alone.encoder.set_attn_implementation(GRAPH_ATTENTION)
        _export(alone, path)
        _check(outputs, path)
    except Exception:
        alone.encoder.set_attn_implementation("sdpa")
        _export(alone, path)
        _check(outputs, path)


def _register_attention() -> None:
    from transformers import AttentionInterface

    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        if options.get("sliding_window"):
            raise NotImplementedError("MultiHeadAttention has no sliding window")
        windows, heads, tokens, size = query.shape
        flat = [x.transpose(1, 2).reshape(windows, tokens, heads * size) for x in (query, key, value)]
        states = torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (*flat, None, graph_mask.get()),
            {"num_heads": heads, "scale": float(options.get("scaling") or size**-0.5)},
            dtype=query.dtype,
            shape=flat[0].shape,
            version=1,
        )
        return states.reshape(windows, tokens, heads, size), None

    AttentionInterface.register(GRAPH_ATTENTION, attention)


def _export(outputs: TokenOutputs, path: Path) -> None:
    config = outputs.encoder.config
    most = int(config.max_position_embeddings) - (2 if "roberta" in config.model_type else 0)
    windows, tokens = torch.export.Dim("windows", min=1, max=1 << 20), torch.export.Dim("tokens", min=1, max=most)
    with _silent():
        torch.onnx.export(
            outputs,
            _example(4, 5),
            path,
            dynamo=True,
            input_names=["input_ids", "mask"],
            output_names=["token_logits", "aspect_logits"][: 1 if outputs.aspect_head is None else 2],
            dynamic_shapes=({0: windows, 1: tokens}, {0: windows, 1: tokens}),
            external_data=False,
            verbose=False,
        )


def _example(windows: int, tokens: int) -> tuple[Tensor, Tensor]:
    ids = torch.arange(3, 3 + windows * tokens).reshape(windows, tokens)
    return ids, torch.arange(tokens)[None, :] < torch.arange(tokens, tokens - windows, -1)[:, None]


def _check(outputs: TokenOutputs, path: Path) -> None:
    """Raise if graph and network disagree about padded windows, of a shape that the exporter has not seen."""
    ids, mask = _example(3, 7)
    for ours, theirs in zip(onnx_engine(path)(ids, mask), torch_engine(outputs)(ids, mask), strict=True):
        if ours is not None and theirs is not None and not torch.allclose(ours[mask], theirs.cpu()[mask], atol=1e-3):
            raise RuntimeError("the graph disagrees with the network")


def _to_int8(source: Path, target: Path) -> None:
    """Products with weights in 8 bits; embeddings, norms, heads and the attentions' own products stay float32."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source).graph
    shape = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    large = [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and min(shape.get(node.input[1], (0,))) >= _LEAST_OUTPUTS
    ]
    with _silent():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=large,
            per_channel=True,
            reduce_range=False,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )


@contextmanager
def _silent() -> Iterator[None]:
    """Exporter and quantiser talk of missing torchvision and of preprocessing: neither is a user's concern."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


# -- python -m nlp export ----------------------------------------------------------------------------------------


def export_command(args: list[str]) -> None:
    """`python -m nlp export`: measure the engines on a dataset's reviews and keep the best with its run in use.

    Raises:
        UserError: a flag is at fault, or there is no dataset, run or review.
    """
    parser = command.Parser(
        prog="python -m nlp export",
        description="Measure the forms in which the current sentiment run can be read; keep the quickest with it.",
        allow_abbrev=False,
    )
    parser.add_argument("--data.dataset", dest="dataset", default="demo", help="name of the dataset (default: demo)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each form (default: %(default)s)")
    options = parser.parse_args(args)
    found = open_dataset(options.dataset)
    run = runs.current_run(options.dataset, "sentiment")
    if run is None:
        fit = runs.fit_command(options.dataset, "sentiment")
        raise UserError(f"Dataset '{options.dataset}' has no trained sentiment model: train one with '{fit}'.")
    texts = read_parquet(found.path("reviews"), [TEXT])[TEXT] if found.has("reviews") else found.reviews()[TEXT]
    module = with_aspects(load_served(SentimentModule, run, "cpu"), AspectFinder.load(run))
    rows = export(module, run, texts.dropna().tolist(), options.seconds)
    show(rows, f"Run {run.name}, {torch.get_num_threads()} threads; speed in those of torch-float32")


def show(rows: Rows, title: str) -> None:
    """Print what `export` returned."""
    columns = (
        "tokens_per_second",
        "speed",
        "changed",
        "lost",
        "mean_difference",
        "max_difference",
        "max_aspect_difference",
    )
    table = {name: {c: row.get(c) for c in columns} for name, row in rows.items() if "reason" not in row}
    report.print_metrics(table, title)
    for name, row in rows.items():
        if "reason" in row:
            print(f"- {name} was not measured: {row['reason']}.")
        elif not row["eligible"]:
            print(f"- {name} decides too differently from torch-float32 to be chosen.")
        elif row["chosen"]:
            print(f"- {name} is now in use.")
