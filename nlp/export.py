"""Quick reading: one network in several numeric forms ("engines"), the quickest of them kept with the run.

    torch-float32    as trained
    torch-bfloat16   bfloat16 products, where the CPU has them in hardware
    onnx-float32     ONNX Runtime on the same weights
    onnx-int8        weights in 8 bits with a scale for each output, activations in 8 bits with one for each product

`export` runs them on a sample of real texts, in turn, so that whatever else the machine does hits all alike. Eligible
is what decides like float32 (`MOST_CHANGED`, `MOST_MEAN_DIFFERENCE`); the eligible engine with the most tokens a second
goes into the run. None is best everywhere: 8 bits pay where the CPU multiplies them (VNNI) and may overflow where it
does not, so `load_engine` uses the choice only on a CPU of the kind that was measured.

In the graph an attention is one operator (com.microsoft MultiHeadAttention): as PyTorch exports it, an eighth
of the 8-bit time goes into masks and copies. ONNX Runtime's fused Add + LayerNormalization is switched off: MiniLM
reads 8,800 tokens a second with it and 10,600 without (one thread of an EPYC with VNNI).
"""

import copy
import hashlib
import importlib.util
import json
import logging
import platform
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn

from data import command, report, runs
from data.atomic import atomic_folder, write_json
from data.dataset import open_dataset, read_parquet
from data.errors import UserError
from data.schema import TEXT
from data.served import load_served
from nlp import encoder as encoders
from nlp.aspects import AspectFinder
from nlp.sentiment import SentimentModule
from nlp.tokens import Frame, Tokens, Windows, batches_by_length, cut, frame_of, pad, tokenise

# (input_ids, mask), both (windows, tokens), to token logits (windows, tokens) and aspect logits (windows, tokens,
# aspects), float32; without an aspect head None. Logits of padding mean nothing.
Engine = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
Rows = dict[str, dict[str, Any]]  # engine to what was measured of it

ENGINES = ("torch-float32", "torch-bfloat16", "onnx-float32", "onnx-int8")
CHOICE, GRAPH = "engine.json", "onnx"  # in a run: what was measured and chosen; the folder with model.onnx
MOST_CHANGED = 0.01  # share of texts on the other side of 0.5; such changes go both ways, accuracy loses a part of it
MOST_MEAN_DIFFERENCE = 0.01  # of p(positive)
BATCH_TOKENS = 2_048  # padded tokens in a batch: its activations fit into a core's cache
_SLOW_FUSIONS = ["SkipLayerNormFusion", "BiasSkipLayerNormFusion"]
_LEAST_OUTPUTS = 32  # a head is narrower: nothing to gain, and its error goes straight into the logit
_SEED, _MOST_TEXTS, _TIMED_BATCHES = 42, 2_000, 12
_ATTENTION = "marquee_onnx"  # our name in transformers' table of attention functions
_mask: ContextVar[Tensor] = ContextVar("mask")  # what the attentions of the graph being made have to look at


class TokenOutputs(nn.Module):
    """One pass of the encoder, two readings: sentiment from its last states, aspects from those of a middle layer.

    A window's sentiment logit is the mean of its tokens' logits: the head is linear.

    Args:
        encoder: BERT-like, of nlp/encoder.py.
        head: linear, size to 1.
        aspect_head: linear, size to number of aspects; None: there are no aspects.
        aspect_layer: the aspects read the states after so many layers, 0 being the embeddings.
    """

    def __init__(
        self, encoder: nn.Module, head: nn.Module, aspect_head: nn.Module | None = None, aspect_layer: int = 0
    ) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.head, self.aspect_head, self.aspect_layer = head, aspect_head, aspect_layer

    def forward(self, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Token logits (windows, tokens), and aspect logits (windows, tokens, aspects) if there are aspects."""
        attention = None  # nothing to hide, or a graph whose attentions see the mask by themselves
        if self.encoder.config._attn_implementation == _ATTENTION:
            _mask.set(mask.int())
        elif torch.compiler.is_exporting() or not bool(mask.all()):
            attention = encoders.attention(self.encoder, mask)
        aspects = self.aspect_head is not None
        found = self.encoder(input_ids=input_ids, attention_mask=attention, output_hidden_states=aspects)
        logits = self.head(found.last_hidden_state).squeeze(-1)
        return (logits, self.aspect_head(found.hidden_states[self.aspect_layer])) if self.aspect_head else (logits,)


def with_aspects(module: SentimentModule, finder: AspectFinder | None) -> SentimentModule:
    """The module itself, which reads the finder's aspects from now on."""
    if finder is not None:
        module.aspect_head, module.aspect_layer = finder.linear().to(module.device), finder.layer
    return module


def token_outputs(module: SentimentModule) -> TokenOutputs:
    """The parts of `module` that an engine runs; weights are shared."""
    return TokenOutputs(module.encoder, module.head, module.aspect_head, module.aspect_layer).eval()


# -- engines -----------------------------------------------------------------------------------------------------


def engine_name(run: Path, module: SentimentModule) -> str:
    """The engine that `export` chose for the run, or the best guess where that cannot serve.

    A guess it is on a GPU, without an export, where onnxruntime is not installed, on another kind of CPU than was
    measured or with other weights: bfloat16 if this CPU has it in hardware, else float32.

    Raises:
        UserError: the choice cannot be read.
    """
    guess = torch_name()
    path = run / CHOICE
    if module.device.type != "cpu" or not path.is_file():
        return guess
    try:
        choice = json.loads(path.read_text("utf-8"))
        name, cpu, weights = choice["engine"], choice["cpu"], choice["weights"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: run 'python -m nlp export' again, or delete the file.") from None
    if cpu != cpu_kind() or name not in ENGINES:
        return guess
    if name.startswith("onnx") and not (_installed("onnxruntime") and weights == _fingerprint(token_outputs(module))):
        return guess
    return str(name)


def load_engine(run: Path, module: SentimentModule) -> Engine:
    """The engine of `engine_name`; on a GPU the module itself in half precision.

    Raises:
        UserError: the choice or its graph cannot be read.
    """
    name, path = engine_name(run, module), run / GRAPH / "model.onnx"
    if not name.startswith("onnx"):
        return torch_engine(token_outputs(module), name)
    try:
        return onnx_engine(path)
    except Exception as failure:  # onnxruntime's errors have no base class of their own
        raise UserError(
            f"{path} cannot be loaded ({type(failure).__name__}): run 'python -m nlp export' again, or delete "
            f"{run / CHOICE}."
        ) from failure


def torch_name() -> str:
    """The quickest engine that needs no export: bfloat16 if this CPU has it in hardware, else float32."""
    return "torch-bfloat16" if encoders.bfloat16_pays() else "torch-float32"


def torch_engine(outputs: TokenOutputs, name: str = "torch-float32") -> Engine:
    """`outputs` on its device: `torch-float32` or `torch-bfloat16` on a CPU; on CUDA always in half precision."""
    device = next(outputs.parameters()).device
    cuda = device.type == "cuda"
    half = torch.float16 if cuda and not torch.cuda.is_bf16_supported() else torch.bfloat16
    reduced = cuda or (device.type == "cpu" and name == "torch-bfloat16")

    @torch.inference_mode()
    def engine(input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        with torch.autocast(device.type, half, enabled=reduced):
            logits, *aspects = outputs(input_ids.to(device), mask.to(device))
        return logits.float(), aspects[0].float() if aspects else None

    return engine


def onnx_engine(path: Path) -> Engine:
    """The graph of an ONNX file on as many threads as torch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # between batches others want the cores
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOW_FUSIONS
    )

    def engine(input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        logits, *aspects = session.run(None, {"input_ids": input_ids.cpu().numpy(), "mask": mask.cpu().numpy()})
        return torch.from_numpy(logits), torch.from_numpy(aspects[0]) if aspects else None

    return engine


def read(
    engine: Engine, tokens: Tokens, windows: Windows, frame: Frame, most_tokens: int = BATCH_TOKENS
) -> Iterator[tuple[np.ndarray, Tensor, Tensor, Tensor | None]]:
    """All windows through an engine, longest first.

    Yields:
        For each batch the positions of its windows, their mask (windows, tokens), token logits and aspect logits.
    """
    for index in batches_by_length(windows.length + frame.size, most_tokens):
        chosen = Windows(windows.text[index], windows.start[index], windows.length[index])
        ids, mask = pad(tokens, chosen, frame)
        yield (index, mask, *engine(ids, mask))


def window_logits(token_logits: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens there are: both (windows, tokens), the result (windows,)."""
    return token_logits.masked_fill(~mask, 0.0).sum(1) / mask.sum(1)


def cpu_kind() -> dict[str, Any]:
    """What decides how quick and how exact an engine is on this CPU: architecture and vector instructions."""
    wanted = ("avx2", "avx512_f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    has = torch.cpu.get_capabilities()
    return {"machine": platform.machine(), "has": [name for name in wanted if has.get(name)]}


def _installed(*names: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in names)


def _fingerprint(outputs: TokenOutputs) -> str:
    """SHA-256 of all weights: a graph must not outlive the network that it was made from."""
    digest = hashlib.sha256()
    for name, value in sorted(outputs.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


# -- export ------------------------------------------------------------------------------------------------------


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
        `max_aspect_difference` (of a token's probability), `eligible`, `chosen` - or `reason`, why it cannot run.

    Raises:
        UserError: no texts.
    """
    batches, text = _sample(module, run, texts, most_tokens)
    outputs = token_outputs(module)
    with tempfile.TemporaryDirectory(dir=run) as folder:
        engines, reasons = engines_of(outputs, Path(folder))
        rows: Rows = {name: {"reason": reasons[name]} if name in reasons else {} for name in ENGINES}
        _compare(engines, batches, text, float(module.temperature), rows)
        _time(engines, batches, seconds, rows)
        best = max((n for n in engines if rows[n]["eligible"]), key=lambda n: rows[n]["tokens_per_second"])
        for name in engines:
            rows[name]["chosen"] = name == best
        if best.startswith("onnx"):
            with atomic_folder(run / GRAPH) as target:
                (Path(folder) / f"{best}.onnx").rename(target / "model.onnx")
    sample = {"texts": int(np.concatenate(text).max()) + 1, "tokens": int(sum(mask.sum() for _, mask in batches))}
    content = {"engine": best, "weights": _fingerprint(outputs), "cpu": cpu_kind(), "threads": torch.get_num_threads()}
    write_json(run / CHOICE, report.jsonable({**content, "sample": sample, "measured": rows}))
    if not best.startswith("onnx"):
        shutil.rmtree(run / GRAPH, ignore_errors=True)  # an earlier export's
    return rows


def _sample(
    module: SentimentModule, run: Path, texts: Sequence[str], most_tokens: int
) -> tuple[list[tuple[Tensor, Tensor]], list[np.ndarray]]:
    """Batches (ids, mask) of a seeded sample of `texts`, and the text of each of their windows, counted from 0."""
    said = [text for text in texts if text and text.strip()]
    if not said:
        raise UserError("There is no text to measure the engines with: name a dataset with reviews (--data.dataset).")
    tokenizer = encoders.load_tokenizer(str(run / encoders.FOLDER), str(run / encoders.FOLDER))
    frame = frame_of(tokenizer)
    order = np.random.default_rng(_SEED).permutation(len(said))[:_MOST_TEXTS]
    tokens = tokenise(tokenizer, [said[i] for i in order])
    fitting = max(1, int(np.searchsorted(tokens.offsets[1:], most_tokens, "right")))
    windows = cut(tokens.lengths[:fitting], int(module.hparams["max_tokens"]) - frame.size)
    batches, text = [], []
    for index in batches_by_length(windows.length + frame.size, BATCH_TOKENS):
        chosen = Windows(windows.text[index], windows.start[index], windows.length[index])
        batches.append(pad(tokens, chosen, frame))
        text.append(chosen.text)
    return batches, text


def _compare(
    engines: dict[str, Engine],
    batches: list[tuple[Tensor, Tensor]],
    text: list[np.ndarray],
    temperature: float,
    rows: Rows,
) -> None:
    """Every engine over the whole sample once, which also warms it up; how it differs goes into `rows`.

    The encoder speaks without the n-grams, which are the same in all engines and would hide a part of the difference.
    """
    of_window = np.concatenate(text)
    reference: tuple[np.ndarray, list[Tensor | None]] | None = None
    for name, engine in engines.items():
        found = [engine(ids, mask) for ids, mask in batches]
        means = [window_logits(logits, mask) for (logits, _), (_, mask) in zip(found, batches, strict=True)]
        logit = np.bincount(of_window, torch.cat(means).double().numpy()) / np.bincount(of_window)  # (texts,)
        p, aspects = expit(logit / temperature), [aspect for _, aspect in found]
        reference = reference or (p, aspects)
        difference = np.abs(p - reference[0])
        apart = [
            float((torch.sigmoid(ours) - torch.sigmoid(theirs))[mask].abs().max())
            for ours, theirs, (_, mask) in zip(aspects, reference[1], batches, strict=True)
            if ours is not None and theirs is not None
        ]
        changed, mean = float(((p > 0.5) != (reference[0] > 0.5)).mean()), float(difference.mean())
        rows[name] |= {
            "changed": changed,
            "mean_difference": mean,
            "max_difference": float(difference.max()),
            "max_aspect_difference": max(apart, default=None),
            "eligible": changed <= MOST_CHANGED and mean <= MOST_MEAN_DIFFERENCE,
        }


def _time(engines: dict[str, Engine], batches: list[tuple[Tensor, Tensor]], seconds: float, rows: Rows) -> None:
    """Tokens a second: each batch by all engines in turn, round after round; the quickest round of a batch counts."""
    chosen = batches[:: max(1, len(batches) // _TIMED_BATCHES)]
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
    if not _installed("onnx", "onnxscript", "onnxruntime"):
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
        alone.encoder.set_attn_implementation(_ATTENTION)
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
            (*flat, None, _mask.get()),
            {"num_heads": heads, "scale": float(options.get("scaling") or size**-0.5)},
            dtype=query.dtype,
            shape=flat[0].shape,
            version=1,
        )
        return states.reshape(windows, tokens, heads, size), None

    AttentionInterface.register(_ATTENTION, attention)


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
    columns = ("tokens_per_second", "speed", "changed", "mean_difference", "max_difference", "max_aspect_difference")
    table = {name: {c: row.get(c) for c in columns} for name, row in rows.items() if "reason" not in row}
    report.print_metrics(table, title)
    for name, row in rows.items():
        if "reason" in row:
            print(f"- {name} was not measured: {row['reason']}.")
        elif not row["eligible"]:
            print(f"- {name} decides too differently from torch-float32 to be chosen.")
        elif row["chosen"]:
            print(f"- {name} is now in use.")
