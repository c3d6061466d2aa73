"""A transformer fine-tuned to tell positive from negative reviews.

Devlin et al., "BERT" (2019), with the mean of the last layer's token states as the text's vector (Reimers and Gurevych,
"Sentence-BERT", 2019) and one linear unit on it. With windows w of a review and a linear head f:

    encoder logit = mean over w of f(mean over tokens of encoder(w))
    p(positive) = sigmoid(((1 + s u) · encoder logit + mix · (1 + t u) · bag logit) / temperature), u = log(tokens / 64)

Training minimises the mean over reviews of the binary cross-entropy of sigmoid(encoder logit) plus l1 · sum of
|weights|. The bag of n-grams (nlp/ngrams.py) is fitted at its start, by itself; `mix`, `slopes` (s, t), `temperature`
and `neutral_band` are set on validation afterwards (nlp/calibration.py). Layers further from the head
can learn more slowly (Howard and Ruder, "Universal Language Model Fine-tuning", 2018) or not at all.
"""

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import UserError
from nlp import encoder as encoders
from nlp.calibration import join
from nlp.ngrams import NGramBag

CALIBRATION = ("temperature", "neutral_band", "mix", "slopes")  # set on validation (nlp/evaluate.py)

Batch = dict[str, Any]  # nlp/datamodule.py lists its keys


def pool_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens there are: (windows, tokens, size) and (windows, tokens) give (windows, size)."""
    weight = mask.unsqueeze(-1).to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1)


def pool_windows(values: Tensor, review: Tensor, windows: Tensor) -> Tensor:
    """Mean over each review's windows: values (windows,), review (windows,), windows (reviews,) give (reviews,)."""
    return torch.zeros_like(windows).index_add(0, review, values.to(windows.dtype)) / windows


class SentimentModule(pl.LightningModule):
    """Review sentiment.

    Args:
        encoder: hub name or local folder of a BERT-like encoder.
        max_tokens: tokens in a window, special tokens counted; what the scorer cuts texts into.
        warm_refit: whether the refit goes on from the fitted weights.
        ngram_buckets: weights of the bag of n-grams; 0: none, the encoder speaks alone.
        ngram_inverse_l2: how freely the bag's weights move: the inverse of their L2 penalty.
        freeze_layers: so many of the lowest layers, and the embeddings with them, keep their pretrained weights.
        cache_frozen: compute the frozen layers' outputs once and keep them (needs disk, saves most of a CPU's time).
        dropout: before the head.
        encoder_dropout: inside the encoder's layers; None leaves what the encoder's authors chose.
        learning_rate: peak, for the encoder's top layer.
        head_learning_rate: peak, for the head, which starts from nothing.
        layer_decay: each layer learns at this share of the rate of the layer above it.
        weight_decay: decoupled L2 on weights, not on biases and norms.
        l1: factor of the sum of |weights| of the head in the loss.
        label_smoothing: share of the label's certainty given away, half to each side.
        warmup: share of the steps in which the rate rises.
        schedule: what the rate does after that: `linear` or `cosine` to zero, or `constant`.
        refit_rate: share of the rates used by a warm refit.
        cpu_bfloat16: bfloat16 products on a CPU; None: where the CPU has them in hardware. A GPU: --trainer.precision.
        gradient_checkpointing: recompute activations in the backward pass: less memory, a third more time.
        encoder_config: set by the module itself; the encoder's configuration as JSON.
    """

    model_name = "sentiment"
    monitor = "val/accuracy"
    monitor_mode = "max"
    compiled = ("encoder",)  # by data.faster.Faster

    temperature: Tensor
    neutral_band: Tensor
    mix: Tensor
    slopes: Tensor

    def __init__(
        self,
        encoder: str = encoders.DEFAULT,
        max_tokens: int = 256,
        warm_refit: bool = False,
        ngram_buckets: int = 0,
        ngram_inverse_l2: float = 16.0,
        freeze_layers: int = 0,
        cache_frozen: bool = False,
        dropout: float = 0.1,
        encoder_dropout: float | None = None,
        learning_rate: float = 5e-5,
        head_learning_rate: float = 1e-3,
        layer_decay: float = 1.0,
        weight_decay: float = 0.01,
        l1: float = 0.0,
        label_smoothing: float = 0.0,
        warmup: float = 0.1,
        schedule: str = "linear",
        refit_rate: float = 0.5,
        cpu_bfloat16: bool | None = None,
        gradient_checkpointing: bool = False,
        encoder_config: str = "",
    ) -> None:
        super().__init__()
        if schedule not in ("linear", "cosine", "constant"):
            raise UserError(f"--model.schedule {schedule}: choose linear, cosine or constant.")
        encoder_config = encoder_config or encoders.load_config(encoder)
        self.save_hyperparameters()
        self.encoder = encoders.build(encoder_config)
        config = self.encoder.config
        n_layers = len(encoders.layers_of(self.encoder))
        if not 0 <= freeze_layers <= n_layers:
            raise UserError(f"--model.freeze_layers {freeze_layers}: {encoder} has {n_layers} layers.")
        # RoBERTa counts positions from 2.
        most_tokens = config.max_position_embeddings - (2 if "roberta" in config.model_type else 0)
        if max_tokens > most_tokens:
            raise UserError(f"--data.max_tokens {max_tokens}: {encoder} reads at most {most_tokens}.")
        if encoder_dropout is not None:
            for module in self.encoder.modules():
                if isinstance(module, nn.Dropout):
                    module.p = encoder_dropout
        if gradient_checkpointing:
            self.encoder.gradient_checkpointing_enable()
        self.size = int(config.hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.size, 1)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("neutral_band", torch.zeros(()))
        self.register_buffer("mix", torch.zeros(()))
        self.register_buffer("slopes", torch.zeros(2))
        self.bag = NGramBag(ngram_buckets) if ngram_buckets else None
        # Set by who reads aspects (nlp/predictor.py): they are no part of what is trained here.
        self.aspect_head: nn.Module | None = None
        self.aspect_layer = 0
        self._frozen: list[nn.Module] = []
        self._upper: Callable[..., Any] | None = None
        self._warm = False
        if freeze_layers:
            self._freeze(freeze_layers)

    def _freeze(self, n: int) -> None:
        self._frozen = [self.encoder.get_submodule("embeddings"), *encoders.layers_of(self.encoder)[:n]]
        for module in self._frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "SentimentModule":
        super().train(mode)
        for module in self._frozen:
            module.eval()  # no dropout in what does not learn: its outputs are always the same
        return self

    # -- forward ---------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Logits of positive: (reviews,)."""
        mask = batch["mask"]  # (windows, tokens)
        attention = encoders.attention(self.encoder, mask) if batch["padded"] else None
        with encoders.autocast(self.device, self.hparams["cpu_bfloat16"]):
            if "hidden" in batch and self._upper is not None:
                given = batch["hidden"].to(self.head.weight.dtype)
                states = self._upper(inputs_embeds=given, attention_mask=attention).last_hidden_state
            else:
                states = self.encoder(input_ids=batch["input_ids"], attention_mask=attention).last_hidden_state
        text = pool_tokens(states.to(self.head.weight.dtype), mask)  # (windows, size)
        logits = pool_windows(self.head(self.dropout(text)).squeeze(-1), batch["review"], batch["windows"])
        if "length" not in batch:
            return logits
        bag = torch.zeros_like(logits)
        if self.bag is not None:
            bag = self.bag(batch["ngram"], batch["ngram_review"], logits)
        return join(logits, bag, batch["length"], self.mix, self.slopes[0], self.slopes[1])

    def _step(self, batch: Batch, stage: str) -> Tensor:
        logits, label = self(batch), batch["label"]
        smoothing = self.hparams["label_smoothing"] if stage == "train" else 0.0
        loss = F.binary_cross_entropy_with_logits(logits, label * (1 - smoothing) + smoothing / 2)
        if stage == "train":
            if self.hparams["l1"]:
                loss = loss + self.hparams["l1"] * self.head.weight.abs().sum()
            self.log("train/loss", loss, prog_bar=True, batch_size=len(label))
        else:
            right = ((logits > 0) == (label > 0.5)).float().mean()
            values = {f"{stage}/loss": loss, f"{stage}/accuracy": right}
            self.log_dict(values, prog_bar=True, batch_size=len(label), sync_dist=True)
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        return {"review_id": batch["review_id"], "p_positive": torch.sigmoid(self(batch) / self.temperature)}

    # -- fit -------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Start from the pretrained weights; a checkpoint to resume from is restored after this."""
        if stage == "fit" and not self._warm:
            encoders.load_pretrained(self.encoder, self.hparams["encoder"])

    def warm_start(self, fitted: "SentimentModule") -> None:
        """Take over from the module before the refit: its calibration, and with `warm_refit` its weights."""
        for name in CALIBRATION:
            getattr(self, name).copy_(getattr(fitted, name))
        if self.hparams["warm_refit"]:
            self.load_state_dict(fitted.state_dict())
            self._warm = True

    def on_fit_start(self) -> None:
        if self.bag is not None:
            tokens, rows, positive = self.trainer.datamodule.bag_data()  # type: ignore[attr-defined]
            self.bag.fit(tokens, rows, positive, self.hparams["ngram_inverse_l2"])
        if self.hparams["freeze_layers"] and self.hparams["cache_frozen"]:
            lower, upper = encoders.divide(self.encoder, self.hparams["freeze_layers"])
            self._upper = upper.__call__  # not the module itself, lest its weights be registered twice

            @torch.no_grad()
            def frozen_states(ids: Tensor, mask: Tensor) -> Tensor:
                ids, mask = ids.to(self.device), mask.to(self.device)
                wide = None if bool(mask.all()) else encoders.attention(self.encoder, mask)
                with encoders.autocast(self.device, self.hparams["cpu_bfloat16"]):
                    return lower(input_ids=ids, attention_mask=wide).last_hidden_state

            self.trainer.datamodule.keep_frozen_states(frozen_states, self.size)  # type: ignore[attr-defined]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What learns, by depth: a rate for each layer, and weight decay on weights alone."""
        hp, layers = self.hparams, encoders.layers_of(self.encoder)
        factor = hp["refit_rate"] if self._warm else 1.0
        depth_of = {id(p): i for i, layer in enumerate(layers, start=1) for p in layer.parameters()}
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            if name.startswith("head."):
                rate = hp["head_learning_rate"]
            else:
                # What belongs to no layer lies below the first (embeddings) or above the last (a final norm).
                depth = depth_of.get(id(parameter), 0 if "embeddings" in name else len(layers))
                rate = hp["learning_rate"] * hp["layer_decay"] ** (len(layers) - depth)
            decay = hp["weight_decay"] if parameter.ndim > 1 else 0.0
            groups.setdefault((factor * rate, decay), []).append(parameter)
        return [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameter_groups())
        total = max(1, int(self.trainer.estimated_stepping_batches))
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate_at(step, total, self.hparams["warmup"], self.hparams["schedule"])
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def rate_at(step: int, total: int, warmup: float, schedule: str) -> float:
    """The share of the peak learning rate in `step` of `total`.

    >>> [round(rate_at(s, 10, 0.2, "linear"), 2) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rising = round(total * warmup)
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    done = min(1.0, (step - rising) / max(1, total - rising))
    return 1 - done if schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
