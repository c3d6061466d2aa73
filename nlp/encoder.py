"""Any transformer encoder by hub name or local folder, and its division into a frozen part and a trained part.

The layers below `freeze_layers` never change, so their outputs for a text never change either: they can be computed
once and kept. `divide` makes two views that share all weights with the whole: `lower` (embeddings and frozen layers)
and `upper` (the other layers, fed with hidden states). upper(lower(x)) equals the whole encoder, which is checked.
"""

import copy
import json
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data import runs
from data.errors import UserError
from data.fetch import weights

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
FETCHED = "all-MiniLM-L6-v2"  # what data.fetch calls the same weights
FOLDER = "encoder"  # in a run: tokenizer and configuration

_LAYERS = ("encoder.layer", "layers", "transformer.layer")  # BERT and its kin, ModernBERT, DistilBERT


def locate(name: str) -> str:
    """Where transformers finds the encoder `name`: a folder, or a hub name. The default's weights come verified.

    Raises:
        UserError: `name` looks like a path and is no folder, or the default's weights could not be fetched.
    """
    if name in (DEFAULT, FETCHED):
        return str(weights(FETCHED))
    if Path(name).is_dir():
        return name
    if name.count("/") > 1 or name.startswith(("/", ".", "~")):
        raise UserError(f"--data.encoder {name} is no folder: give a folder with config.json, or a hub name.")
    return name


@cache
def _hub_answers(seconds: float = 3.0) -> bool:
    """Whether the model hub can be reached; asked once, so that an offline machine does not wait for retries."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True  # only the proxy knows
    host, _, port = constants.ENDPOINT.split("//")[-1].split("/")[0].partition(":")
    try:
        socket.create_connection((host, int(port or 443)), timeout=seconds).close()
    except OSError:
        return False
    return True


@contextmanager
def _loading(what: str, mend: str, local: bool) -> Iterator[dict[str, Any]]:
    """Arguments for `from_pretrained`; its failures become one sentence, its remarks stay unsaid."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield {"trust_remote_code": False, "local_files_only": local or not _hub_answers()}
    # A file of JSON with something else in it than it should have ends in any of them.
    except (OSError, ValueError, TypeError, AttributeError, LookupError) as failure:
        reason = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
        raise UserError(f"{what} cannot be loaded ({reason[:200]}): {mend}.") from None
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _asked_for(name: str, place: str) -> AbstractContextManager[dict[str, Any]]:
    mend = (
        "give a folder with config.json, tokenizer and safetensors weights, a hub name while the hub can be reached, "
        f"or {DEFAULT}"
    )
    return _loading(f"--data.encoder {name}", mend, Path(place).is_dir())


def load_tokenizer(name: str) -> Any:
    """The fast tokenizer of encoder `name`.

    Raises:
        UserError: it cannot be found or loaded.
    """
    from transformers import AutoTokenizer

    place = locate(name)
    with _asked_for(name, place) as options:
        return AutoTokenizer.from_pretrained(place, use_fast=True, **options)


def tokenizer_of(run: Path) -> Any:
    """The tokenizer that a run was trained with.

    Raises:
        UserError: a file of it is missing or damaged.
    """
    from transformers import AutoTokenizer

    folder, mend = run / FOLDER, runs.MEND
    for path in (folder / "tokenizer.json", folder / "tokenizer_config.json"):
        if not path.is_file():  # transformers would make up a tokenizer that knows no word
            raise UserError(f"{path} does not exist: {mend}.")
    with _loading(f"The tokenizer in {folder}", mend, local=True) as options:
        return AutoTokenizer.from_pretrained(str(folder), use_fast=True, **options)


def load_config(name: str) -> str:
    """The configuration of encoder `name` as a JSON string: a plain value, so it can stand in a checkpoint.

    Raises:
        UserError: it cannot be found or loaded.
    """
    from transformers import AutoConfig

    place = locate(name)
    with _asked_for(name, place) as options:
        config = AutoConfig.from_pretrained(place, **options)
    return json.dumps(config.to_dict(), sort_keys=True, default=str)


def build(config: str) -> Any:
    """An encoder with random weights from the JSON of `load_config`, without the pooler that we do not use."""
    from transformers import AutoConfig, AutoModel

    values = json.loads(config)
    encoder = AutoModel.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
    if hasattr(encoder, "pooler"):
        encoder.pooler = None
    return encoder.float()


def load_pretrained(encoder: nn.Module, name: str) -> None:
    """Put the pretrained weights of `name` into `encoder` (see `build`). Reads safetensors only.

    Raises:
        UserError: they cannot be found or loaded.
    """
    from transformers import AutoModel

    place = locate(name)
    with _asked_for(name, place) as options:
        pretrained = AutoModel.from_pretrained(place, use_safetensors=True, dtype=torch.float32, **options)
    if hasattr(pretrained, "pooler"):
        pretrained.pooler = None
    encoder.load_state_dict(pretrained.state_dict())


@cache
def bfloat16_pays() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512_BF16 or AMX); elsewhere it would be slower, not faster.

    MiniLM learns 1.5 times and reads 2 times as quickly in it as in float32; sums, norms and weights stay float32.
    """
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def autocast(device: torch.device, wanted: bool | None) -> AbstractContextManager[Any]:
    """bfloat16 products on a CPU: as `wanted`, or where they pay (None). A GPU's precision is the trainer's."""
    on = device.type == "cpu" and (bfloat16_pays() if wanted is None else wanted)
    return torch.autocast("cpu", torch.bfloat16, enabled=on) if device.type == "cpu" else nullcontext()


# -- layers ------------------------------------------------------------------------------------------------------


def layers_of(encoder: nn.Module) -> nn.ModuleList:
    """The encoder's layers, lowest first.

    Raises:
        UserError: an architecture whose layers we do not know.
    """
    return encoder.get_submodule(_layers_path(encoder))  # type: ignore[return-value]


def _layers_path(encoder: nn.Module) -> str:
    for path in _LAYERS:
        try:
            if isinstance(encoder.get_submodule(path), nn.ModuleList):
                return path
        except AttributeError:
            continue
    raise UserError(
        f"--data.encoder: the layers of a {type(encoder).__name__} are not known here: use an encoder of the kind of "
        "BERT, RoBERTa, DistilBERT or ModernBERT."
    )


def attention(encoder: nn.Module, mask: Tensor) -> Tensor:
    """The mask as `encoder` wants it. `mask`: (windows, tokens), true where there is a token.

    BERT and its kin read a two-dimensional mask on the host (a wait for the GPU in every step) to make a wide one;
    given the wide one they use it as it is. ModernBERT needs the narrow one for its local attention.
    """
    if _layers_path(encoder) != "encoder.layer":
        return mask.long()
    tokens = mask.shape[1]
    return mask[:, None, None, :].expand(-1, 1, tokens, -1)  # (windows, 1, tokens, tokens)


class _HiddenStates(nn.Module):
    """Stands where the embeddings were and lets given hidden states through."""

    def forward(
        self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor | None:
        return inputs_embeds


def divide(encoder: nn.Module, n_lower: int) -> tuple[nn.Module, nn.Module]:
    """Views of `encoder`: the embeddings with the lowest `n_lower` layers, and the layers above.

    Raises:
        UserError: the two do not add up to the whole for this architecture.
    """
    path = _layers_path(encoder)
    layers = layers_of(encoder)
    lower = _with(encoder, path, nn.ModuleList(layers[:n_lower]))
    if hasattr(lower, "final_norm"):
        lower.final_norm = nn.Identity()
    upper = _with(encoder, path, nn.ModuleList(layers[n_lower:]))
    upper.embeddings = _HiddenStates()
    _check(encoder, lower, upper)
    return lower, upper


def _with(module: nn.Module, path: str, replacement: nn.Module) -> nn.Module:
    """A shallow copy of `module` that has `replacement` at `path` and shares everything else."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    head, _, rest = path.partition(".")
    twin._modules[head] = _with(getattr(module, head), rest, replacement) if rest else replacement
    return twin


@torch.no_grad()
def _check(encoder: nn.Module, lower: nn.Module, upper: nn.Module) -> None:
    was_training = encoder.training
    encoder.eval()
    device = next(encoder.parameters()).device
    ids = torch.arange(8, device=device).reshape(2, 4) + 3
    try:
        whole = encoder(input_ids=ids).last_hidden_state
        parts = upper(inputs_embeds=lower(input_ids=ids).last_hidden_state).last_hidden_state
        same = torch.allclose(whole, parts, atol=1e-4)
    except (TypeError, AttributeError, ValueError, RuntimeError):
        same = False
    finally:
        encoder.train(was_training)
    if not same:
        raise UserError(
            f"--model.cache_frozen: a {type(encoder).__name__} cannot be divided into layers here: set it to false."
        )
