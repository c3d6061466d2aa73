"""The smallest model package: one weight that learns to double. For the tests of the shared training command."""

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from data import training
from data.served import load_served

STEPS_SEEN: list[str] = []


class Toy(pl.LightningModule):
    model_name = "recommender"
    monitor = "val/loss"
    monitor_mode = "min"

    def __init__(self, n_users: int, learning_rate: float = 0.05, fail_at_epoch: int = -1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.linear = torch.nn.Linear(1, 1)

    def _loss(self, batch: torch.Tensor) -> torch.Tensor:
        return (self.linear(batch) - 2 * batch).pow(2).mean()

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if self.current_epoch == self.hparams["fail_at_epoch"]:
            raise KeyboardInterrupt
        loss = self._loss(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", self._loss(batch), sync_dist=True)

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("test/loss", self._loss(batch))

    def predict_step(self, batch: torch.Tensor, batch_idx: int) -> dict[str, Any]:
        return {"x": batch[:, 0], "y": self.linear(batch)[:, 0]}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.hparams["learning_rate"])


class ToyData(pl.LightningDataModule):
    def __init__(self, dataset: str = "demo") -> None:
        super().__init__()
        self.dataset = dataset
        self.fit_on = "train"

    @property
    def n_users(self) -> int:
        return 7

    def _loader(self, rows: int) -> torch.utils.data.DataLoader:
        values = torch.linspace(-1, 1, rows)[:, None]
        return torch.utils.data.DataLoader(values, batch_size=16)  # type: ignore[arg-type]

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        STEPS_SEEN.append(self.fit_on)
        return self._loader(128 if self.fit_on == "train" else 256)

    def val_dataloader(self) -> torch.utils.data.DataLoader:
        return self._loader(32)

    test_dataloader = predict_dataloader = val_dataloader

    def save(self, run: Path) -> None:
        (run / "vocabulary.json").write_text("{}")


def measure(module: pl.LightningModule, datamodule: pl.LightningDataModule, run: Path) -> dict[str, Any]:
    assert not module.training
    loss = float(module._loss(torch.ones(4, 1)))  # type: ignore[operator]
    return {
        "metrics": {"test": {"Toy": {"loss": loss}, "nothing": {"loss": 4.0}}},
        "headline": {"metric": "loss", "higher_is_better": False, "split": "test", "ours": "Toy"},
        "split": {"protocol": "none"},
        "notes": ["A toy."],
    }


def evaluate(argv: list[str]) -> None:
    print("evaluate", *argv)


def open_run(run: Path) -> Toy:
    return load_served(Toy, run)


PACKAGE = training.Package("recsys", ("recommender",), measure, evaluate, open_run, links=(("n_users", "n_users"),))

if __name__ == "__main__":
    sys.exit(training.main(PACKAGE))
