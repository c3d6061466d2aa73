"""Leaving out parts of a fitted forecaster: only that part, only meanwhile, and a table of what each is worth."""

import re
from contextlib import suppress

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from forecasting.__main__ import main
from forecasting.ablation import left_out, parts_of
from forecasting.engagement import EngagementLSTM
from forecasting.retention import RetentionLSTM
from forecasting.retention_data import CHANNELS, STATIC


def stirred(module: pl.LightningModule) -> pl.LightningModule:
    """The module with every weight and correction away from its start."""
    torch.manual_seed(0)
    for value in module.state_dict().values():
        value.copy_(torch.randn_like(value) * 0.1)
    return module.eval()


@torch.no_grad()
def answer(module: RetentionLSTM, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    sequence = torch.rand(20, 12, len(CHANNELS), generator=generator)
    return module(sequence, torch.rand(20, len(STATIC), generator=torch.Generator().manual_seed(9)))


@pytest.mark.parametrize("module", [EngagementLSTM(hidden_size=4), RetentionLSTM(hidden_size=4)])
def test_every_part_changes_the_weights_meanwhile_and_is_put_back(module: pl.LightningModule) -> None:
    stirred(module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    parts = parts_of(module)
    assert len(parts) == 4
    for weights in parts.values():
        with suppress(InterruptedError), left_out(module, weights):
            changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
            assert changed == set(weights)
            raise InterruptedError("a measurement that ends early")
        for name, value in module.state_dict().items():
            assert torch.equal(value, before[name]), name


def test_what_is_left_of_a_retention_model() -> None:
    module = RetentionLSTM(hidden_size=4, n_heads=3)
    stirred(module)
    parts = parts_of(module)
    whole = answer(module)
    with left_out(module, parts["visits unseen"]):
        assert torch.equal(answer(module, 0), answer(module, 1))
    assert not torch.equal(whole, answer(module, 1))
    with left_out(module, parts["one head"]):
        first = answer(module)
        for head in (module.average.linear, module.average.out):
            assert all(torch.equal(head[0], other) for other in head)
    only = RetentionLSTM(hidden_size=4, n_heads=1).eval()
    state = module.state_dict()
    heads = ("common", "linear", "hidden", "hidden_bias", "out")
    cut = {name: value[:1] if name.rpartition(".")[2] in heads else value for name, value in state.items()}
    only.load_state_dict(cut)
    torch.testing.assert_close(first, answer(only))
    with left_out(module, parts["last weights, not averaged"]):
        assert torch.equal(module.average.out, module.net.out)
    with left_out(module, parts["without drift"]):
        assert float(module.drift) == 0


def test_a_network_without_made_up_series_has_no_blend_to_leave_out() -> None:
    assert set(parts_of(EngagementLSTM(hidden_size=4, prior_steps=0))) == {
        "without leaning",
        "without corrected intervals",
    }


def test_other_modules_are_refused() -> None:
    class Other(pl.LightningModule):
        layer = nn.Linear(1, 1)

    with pytest.raises(TypeError, match="Other"):
        parts_of(Other())


@pytest.mark.parametrize("model", ["engagement", "retention"])
def test_the_backtest_prints_what_each_part_is_worth(
    model: str, small_dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    small_dataset(n_days=150, reviews=0)
    tiny = ["--trainer.max_epochs", "1", "--model.hidden_size", "4"]
    tiny += ["--model.prior_steps", "2", "--data.windows_per_epoch", "64"] if model == "engagement" else []
    ask = ["evaluate", "--data.dataset", "small", "--model", model, "--horizon", "14", "--origins", "2", *tiny]
    assert main([*ask, "--ablation"]) == 0
    printed = capsys.readouterr().out
    table = printed.partition(": parts left out\n")[2].partition("\n\n")[0].partition("\n- ")[0].splitlines()
    module = EngagementLSTM(hidden_size=4) if model == "engagement" else RetentionLSTM(hidden_size=4)
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in table[1:])
    assert set(parts_of(module)) < set(rows)
    assert len(set(rows.values())) > 3  # the baseline, ours, and parts that change it
    assert main(ask) == 0
    assert "parts left out" not in capsys.readouterr().out
