"""One network in several numeric forms ("engines"), and the one to read with.

    torch-float32    as trained
    torch-bfloat16   bfloat16 products, where the CPU has them in hardware
    onnx-float32     ONNX Runtime on the same weights
    onnx-int8        weights in 8 bits with a scale for each output, activations in 8 bits with one for each product

None is best everywhere: 8 bits pay where the CPU multiplies them (VNNI) and may overflow where it does not. So
`nlp/export.py` measures them and keeps the quickest with the run, and `load_engine` uses that choice only on a CPU of
the kind that was measured. ONNX Runtime's fused Add + LayerNormalization is switched off: MiniLM reads 8,800 tokens a
second with it and 10,600 without (one thread of an EPYC with VNNI).
"""

import hashlib
import importlib.util
import json
import platform
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.errors import UserError
from nlp import encoder as encoders
from nlp.aspects import AspectFinder
from nlp.sentiment import SentimentModule
from nlp.tokens import Frame, Tokens, Windows, batches_by_length, pad

# (input_ids, mask), both (windows, tokens), to token logits (windows, tokens) and aspect logits (windows, tokens,
# aspects), float32; without an aspect head None. Logits of padding mean nothing.
Engine = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]

ENGINES = ("torch-float32", "torch-bfloat16", "onnx-float32", "onnx-int8")
CHOICE, GRAPH = "engine.json", "onnx"  # in a run: what was measured and chosen; the folder with model.onnx
BATCH_TOKENS = 2_048  # padded tokens in a batch: its activations fit into a core's cache
GRAPH_ATTENTION = "marquee_onnx"  # our name in transformers' table of attention functions
graph_mask: ContextVar[Tensor] = ContextVar("mask")  # what the attentions of the graph being made have to look at
_SLOW_FUSIONS = ["SkipLayerNormFusion", "BiasSkipLayerNormFusion"]


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
        if self.encoder.config._attn_implementation == GRAPH_ATTENTION:
            graph_mask.set(mask.int())
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
    if name.startswith("onnx") and not (installed("onnxruntime") and weights == fingerprint(token_outputs(module))):
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


def installed(*names: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in names)


def fingerprint(outputs: TokenOutputs) -> str:
    """SHA-256 of all weights: a graph must not outlive the network that it was made from."""
    digest = hashlib.sha256()
    for name, value in sorted(outputs.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
