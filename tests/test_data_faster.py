"""What makes training quicker changes nothing that is learned, and says what it cannot do."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from quiet_trainer import quiet_trainer

from data import faster
from data.errors import UserError
from data.faster import Faster
from recsys.datamodule import RecommenderData
from recsys.module import RankingModule
from recsys.neumf import NeuMFModule

pytestmark = pytest.mark.usefixtures("one_thread")


def fitted(callback: pl.Callback | None, **trainer: Any) -> NeuMFModule:
    torch.manual_seed(0)
    data = RecommenderData("small", batch_size=64)
    module = NeuMFModule(data.n_users, data.n_items, gmf_size=4, mlp_size=4, mlp_layers=[4])
    quiet_trainer(2, callbacks=[callback] if callback else [], gradient_clip_val=1.0, **trainer).fit(module, data)
    return module


def assert_same(mine: RankingModule, other: RankingModule) -> None:
    for (name, parameter), expected in zip(mine.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-6, msg=name)


def test_fused_steps_are_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    adam = sys.modules["torch.optim.adam"]  # torch.optim hides it behind its functions
    step = adam._fused_adam
    monkeypatch.setattr(adam, "_fused_adam", lambda *a, **k: (steps.append(1), step(*a, **k)))
    learned = []
    for fused in (False, True):
        weights = torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
        optimizer = torch.optim.AdamW([weights], lr=0.1, weight_decay=0.01)
        trainer: Any = SimpleNamespace(optimizers=[optimizer])
        Faster(fused=fused).on_train_start(trainer, pl.LightningModule())
        for _ in range(5):
            optimizer.zero_grad()
            (weights - 2).square().sum().backward()
            optimizer.step()
        assert len(steps) == (5 if fused else 0)
        learned.append(weights.detach())
    torch.testing.assert_close(learned[1], learned[0])


def test_ours_is_fused_on_a_cpu_and_clipped_too(small_dataset: Any) -> None:
    small_dataset(reviews=0)
    module = fitted(None)
    (group,) = module.configure_optimizers()["optimizer"].param_groups
    assert group["fused"]


def test_fused_steps_go_with_mixed_precision(small_dataset: Any) -> None:
    small_dataset(reviews=0)
    mine, other = (fitted(callback, precision="bf16-mixed") for callback in (Faster(), None))
    assert_same(mine, other)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.benchmark)])
def test_compiled_parts_compute_the_same(small_dataset: Any, backend: str) -> None:
    small_dataset(reviews=0)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    module = fitted(Faster(compile="default", backend=backend))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert module.net._compiled_call_impl is not None
    assert_same(module, fitted(None))


def test_what_cannot_be_compiled_is_one_sentence() -> None:
    module = pl.LightningModule()
    with pytest.raises(UserError, match=r"LightningModule has no part that can be compiled: leave --trainer\."):
        Faster(compile="default").setup(quiet_trainer(1), module, "fit")
    Faster(compile="default").setup(quiet_trainer(1), module, "test")


def test_batches_are_pinned_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch, small_dataset: Any) -> None:
    small_dataset(reviews=0)
    data = RecommenderData("small")
    data.load()
    assert not data.train_dataloader().pin_memory
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert faster.pinned()
    assert data.train_dataloader().pin_memory
