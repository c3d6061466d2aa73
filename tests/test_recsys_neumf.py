"""NeuMF: its parts agree, its steps run on one device, and it learns what was planted."""

import itertools

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from device_check import on_meta, one_device
from quiet_trainer import quiet_trainer

from recsys.datamodule import RecommenderData
from recsys.evaluate import measure
from recsys.neumf import NeuMF, NeuMFModule

SIZES = {"gmf_size": 6, "mlp_size": 5, "mlp_layers": [8, 4]}
VARIANTS = [SIZES, {**SIZES, "mlp_layers": []}, {**SIZES, "gmf_size": 0}, {**SIZES, "mlp_layers": [4]}]


def training_batch(n: int = 7, n_users: int = 9, n_items: int = 11) -> dict[str, torch.Tensor]:
    return {
        "user": torch.arange(n) % n_users,
        "item": torch.arange(n) * 3 % n_items,
        "weight": torch.linspace(0.5, 1.5, n),
    }


def ranking_batch() -> dict[str, torch.Tensor]:
    return {
        "user": torch.tensor([0, 4, 8]),
        "seen_row": torch.tensor([0, 0, 2]),
        "seen_item": torch.tensor([1, 2, 3]),
        "target_row": torch.tensor([0, 1, 2]),
        "target_item": torch.tensor([5, 6, 7]),
    }


@pytest.mark.parametrize("sizes", VARIANTS)
def test_scoring_the_catalogue_equals_scoring_pairs(sizes: dict) -> None:
    net = NeuMF(9, 11, dropout=0.5, **sizes).eval()
    torch.nn.init.normal_(net.bias.weight)
    users = torch.tensor([3, 0, 8, 3])
    pairs, _ = net(users, torch.arange(11).expand(4, -1))
    torch.testing.assert_close(net.catalogue(users), pairs)


def test_the_split_first_layer_is_the_papers_layer_on_both_embeddings() -> None:
    net = NeuMF(9, 11, gmf_size=0, mlp_size=5, mlp_layers=[8], dropout=0.0)
    (tower,) = net.towers
    joined = torch.cat([tower.user.weight[4], tower.item.weight[7]])
    weight = torch.cat([tower.first_user.weight, tower.first_item.weight], dim=1)
    expected = torch.relu(weight @ joined + tower.first_user.bias) @ tower.weight
    torch.testing.assert_close(net.catalogue(torch.tensor([4]))[0, 7], expected)


@pytest.mark.parametrize("loss", ["bce", "bpr", "softmax"])
def test_losses_by_hand_and_without_the_negatives_that_are_wanted(loss: str) -> None:
    module = NeuMFModule(2, 3, loss=loss)
    logits, keep = torch.tensor([[1.0, -0.5, 4.0]]), torch.tensor([[True, False]])
    expected = {
        "bce": np.log1p(np.exp(-1.0)) + np.log1p(np.exp(-0.5)),
        "bpr": np.log1p(np.exp(-1.5)),
        "softmax": np.log(np.exp(1.0) + np.exp(-0.5)) - 1.0,
    }[loss]
    np.testing.assert_allclose(module._losses(logits, keep), [expected], rtol=1e-6)
    assert torch.isfinite(module._losses(logits, torch.zeros_like(keep))).all()


def test_wanted_titles_are_recognised() -> None:
    module = NeuMFModule(3, 4)
    wanted = {(0, 3), (1, 0), (2, 2)}
    module.wanted = torch.tensor(sorted(user * 4 + item for user, item in wanted))
    found = module._wanted(torch.arange(3), torch.arange(4).expand(3, -1))
    assert {(u, i) for u, i in itertools.product(range(3), range(4)) if found[u, i]} == wanted


def test_regularisation_enters_the_loss() -> None:
    def loss(**settings: float) -> float:
        torch.manual_seed(0)
        module = NeuMFModule(9, 11, **SIZES, **settings)
        return float(module.training_step(training_batch(), 0).detach())

    assert loss(l2=10.0) > loss() + 0.01
    assert loss(l1=10.0) > loss() + 0.01


@pytest.mark.parametrize(
    ("loss", "sizes"), [("bce", SIZES), ("bpr", SIZES), ("softmax", SIZES), *(("bce", v) for v in VARIANTS[1:])]
)
def test_every_step_stays_on_one_device(loss: str, sizes: dict) -> None:
    module = on_meta(NeuMFModule(9, 11, loss=loss, l1=0.1, l2=0.1, dropout=0.2, **sizes))
    module.wanted = on_meta(torch.arange(20))
    with one_device():
        module.training_step(on_meta(training_batch()), 0).backward()
        module.validation_step(on_meta(ranking_batch()), 0)
        module.test_step(on_meta(ranking_batch()), 0)
        predicted = module.predict_step(on_meta(ranking_batch()), 0)
    assert {column.device.type for column in predicted.values()} == {"meta"}


def test_predictions_leave_out_what_was_seen() -> None:
    module = NeuMFModule(9, 11, **SIZES).eval()
    predicted = module.predict_step(ranking_batch(), 0)
    rows = list(zip(predicted["user"].tolist(), predicted["item"].tolist(), predicted["logit"].tolist(), strict=True))
    real = {(user, item) for user, item, logit in rows if logit > -np.inf}
    assert len(rows) == 3 * 10
    assert not real & {(0, 1), (0, 2), (8, 3)}


def test_learns_planted_taste_and_beats_popularity(small_dataset, tmp_path) -> None:
    """Members of either group choose titles of their group: popularity cannot tell them apart, a model must."""
    small_dataset(n_users=300, n_items=60, reviews=0)
    pl.seed_everything(0)
    data = RecommenderData("small", batch_size=512)
    module = NeuMFModule(data.n_users, data.n_items, learning_rate=0.01, l2=0.03, n_negatives=8)
    trainer = quiet_trainer(12)
    trainer.fit(module, datamodule=data)
    report = measure(module, data, tmp_path)
    for split in ("validation", "test"):
        ours, popularity = (report["metrics"][split][name]["ndcg@10"] for name in ("NeuMF", "popularity"))
        assert ours > 1.2 * popularity
    logged = float(trainer.callback_metrics["val/ndcg@10"])
    np.testing.assert_allclose(logged, report["metrics"]["validation"]["NeuMF"]["ndcg@10"], rtol=1e-5)
