"""The sentiment module: it learns what is planted, freezes what it should, and every configuration runs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from device_check import on_meta, one_device
from tiny_encoder import LEARN, train_tiny, write_tiny_encoder
from transformers import AutoModel, BertConfig, DistilBertConfig, ModernBertConfig, RobertaConfig

from data.dataset import Dataset
from data.errors import UserError
from data.runs import current_run
from nlp import encoder as encoders
from nlp.__main__ import main
from nlp.datamodule import ReviewData
from nlp.sentiment import SentimentModule, pool_tokens, pool_windows

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIGS = sorted(path.stem for path in Path("nlp/configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def module_of(tiny: Path) -> Callable[..., SentimentModule]:
    def make(**arguments: object) -> SentimentModule:
        torch.manual_seed(0)
        module = SentimentModule(str(tiny), **{"max_tokens": 32, **arguments})  # type: ignore[arg-type]
        module.setup("fit")
        return module

    return make


@pytest.mark.parametrize("config", CONFIGS)
def test_every_configuration_fits_tests_and_predicts(
    config: str, small_dataset: Callable[..., Dataset], tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small_dataset(reviews=120)
    assert train_tiny(config, tiny, "small", "--trainer.max_epochs", "1") == 0
    quiet = ["--data.dataset", "small", "--trainer.enable_progress_bar", "false"]
    assert main(["validate", *quiet]) == 0
    assert main(["test", *quiet]) == 0
    assert "test/accuracy" in capfd.readouterr().out
    assert main(["predict", *quiet]) == 0
    run = current_run("small", "sentiment")
    assert run is not None
    predictions = pd.read_parquet(run / "predictions.parquet")
    assert len(predictions) == 12
    assert predictions["p_positive"].between(0, 1).all()


def test_planted_sentiment_is_learned_and_reported(small_dataset: Callable[..., Dataset], tiny: Path) -> None:
    small_dataset(reviews=300)
    assert train_tiny("quick", tiny, "small", *LEARN) == 0
    run = current_run("small", "sentiment")
    assert run is not None
    report = json.loads((run / "report.json").read_text())
    ours = report["headline"]["ours"]
    assert report["metrics"]["test"][ours]["accuracy"] >= 0.9
    assert report["metrics"]["test"]["majority"]["accuracy"] < 0.7
    assert set(report["split"]["rows"]) == {"train", "validation", "test"}
    assert {"temperature", "neutral_band", "ece_before", "ece_after", "bins"} <= set(report["calibration"])
    assert sum(b["count"] for b in report["calibration"]["bins"]) == report["split"]["rows"]["test"]
    served, best = (torch.load(run / name, weights_only=True)["state_dict"] for name in ("model.ckpt", "best.ckpt"))
    assert served["temperature"] == best["temperature"] != 1
    assert not torch.equal(served["head.weight"], best["head.weight"])  # the refit went on


def test_a_cold_refit_starts_from_the_pretrained_weights(small_dataset: Callable[..., Dataset], tiny: Path) -> None:
    small_dataset(reviews=120)
    frozen = ("--model.freeze_layers", "2", "--trainer.max_epochs", "2", "--data.warm_refit", "false")
    assert train_tiny("quick", tiny, "small", *frozen) == 0
    run = current_run("small", "sentiment")
    assert run is not None
    served, best = (torch.load(run / name, weights_only=True)["state_dict"] for name in ("model.ckpt", "best.ckpt"))
    pretrained = AutoModel.from_pretrained(tiny).state_dict()
    for weights in (served, best):
        for name, value in pretrained.items():
            if not name.startswith("pooler"):
                assert torch.equal(weights[f"encoder.{name}"], value), name
    assert served["temperature"] == best["temperature"]


def test_frozen_layers_keep_their_weights_and_kept_outputs_change_nothing(
    small_dataset: Callable[..., Dataset], tiny: Path, module_of: Callable[..., SentimentModule]
) -> None:
    small_dataset(reviews=120)
    module = module_of(freeze_layers=1, cache_frozen=True)
    data = ReviewData("small", str(tiny), max_tokens=32)
    data.setup()
    lower, upper = encoders.divide(module.encoder, 1)
    module._upper = upper.__call__
    module.eval()

    @torch.no_grad()
    def states(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return lower(input_ids=ids, attention_mask=encoders.attention(module.encoder, mask)).last_hidden_state

    plain = next(iter(data.loader("validation")))
    data.keep_frozen_states(states, 32)
    kept = next(iter(data.val_dataloader()))
    assert plain["review_id"] == kept["review_id"]
    assert "input_ids" in plain
    assert "hidden" in kept
    torch.testing.assert_close(module(plain), module(kept), atol=2e-3, rtol=0)  # kept in half precision
    module.train()
    module(kept).sum().backward()
    learns = {name for name, p in module.named_parameters() if p.grad is not None}
    assert any("layer.1" in name for name in learns)
    assert not any("embeddings" in name or "layer.0" in name for name in learns)


@pytest.mark.parametrize(
    "config",
    [
        BertConfig(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8, vocab_size=40),
        RobertaConfig(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8, vocab_size=40),
        DistilBertConfig(dim=16, n_layers=3, n_heads=2, hidden_dim=8, vocab_size=40),
        ModernBertConfig(
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=8,
            vocab_size=40,
            pad_token_id=0,
            local_attention=4,
        ),
    ],
    ids=lambda config: config.model_type,
)
def test_any_kind_of_encoder_divides_into_layers_and_ignores_padding(config: object) -> None:
    encoder = encoders.build(json.dumps(config.to_dict(), default=str)).eval()  # type: ignore[attr-defined]
    lower, upper = encoders.divide(encoder, 2)
    ids = torch.arange(3, 15).reshape(2, 6)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 4:] = False
    wide = encoders.attention(encoder, mask)
    with torch.no_grad():
        whole = encoder(input_ids=ids, attention_mask=wide).last_hidden_state
        parts = upper(
            inputs_embeds=lower(input_ids=ids, attention_mask=wide).last_hidden_state, attention_mask=wide
        ).last_hidden_state
        alone = encoder(input_ids=ids[1:, :4]).last_hidden_state
    torch.testing.assert_close(whole[mask], parts[mask])
    torch.testing.assert_close(whole[1:, :4], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["plain", "padded", "kept", "kept and padded"])
def test_every_step_stays_on_one_device(kind: str, module_of: Callable[..., SentimentModule]) -> None:
    module = module_of(freeze_layers=1, cache_frozen=True, l1=0.1, label_smoothing=0.1)
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[2, 4:] = "padded" not in kind
    batch = {
        "input_ids": torch.arange(24).reshape(4, 6),
        "mask": mask,
        "padded": "padded" in kind,
        "review": torch.tensor([0, 0, 1, 2]),
        "windows": torch.tensor([2.0, 1.0, 1.0]),
        "label": torch.tensor([0.0, 1.0, 1.0]),
        "review_id": ["a", "b", "c"],
    }
    if "kept" in kind:
        _, upper = encoders.divide(module.encoder, 1)
        module._upper = upper.__call__
        batch["hidden"] = torch.ones(4, 6, module.size, dtype=torch.float16)
        del batch["input_ids"]
    module, batch = on_meta(module), on_meta(batch)
    with one_device():
        module.training_step(batch, 0).backward()
        module.validation_step(batch, 0)
        module.test_step(batch, 0)
        predicted = module.predict_step(batch, 0)
    assert predicted["p_positive"].device.type == "meta"
    assert predicted["p_positive"].shape == (3,)
    assert predicted["review_id"] == ["a", "b", "c"]


def test_pooling_by_hand() -> None:
    states = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert pool_tokens(states, torch.tensor([[True, True, False]])).item() == 2
    logits = pool_windows(torch.tensor([1.0, 3.0, 7.0]), torch.tensor([0, 0, 1]), torch.tensor([2.0, 1.0]))
    assert logits.tolist() == [2, 7]


def test_rates_fall_with_depth_and_biases_do_not_decay(module_of: Callable[..., SentimentModule]) -> None:
    module = module_of(learning_rate=1e-3, head_learning_rate=1e-2, layer_decay=0.5, weight_decay=0.1)
    groups = module.parameter_groups()
    rate_of = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    parameters = dict(module.named_parameters())
    assert rate_of[id(parameters["head.weight"])] == (1e-2, 0.1)
    assert rate_of[id(parameters["head.bias"])] == (1e-2, 0.0)
    query = "encoder.encoder.layer.{}.attention.self.query.weight"
    assert rate_of[id(parameters[query.format(1)])] == (1e-3, 0.1)
    assert rate_of[id(parameters[query.format(0)])] == (5e-4, 0.1)
    assert rate_of[id(parameters["encoder.embeddings.word_embeddings.weight"])][0] == 2.5e-4
    assert len(rate_of) == len(parameters)


def test_l1_and_smoothing_enter_the_training_loss_alone(module_of: Callable[..., SentimentModule]) -> None:
    batch = {
        "input_ids": torch.randint(5, 40, (2, 6)),
        "mask": torch.ones(2, 6, dtype=torch.bool),
        "padded": False,
        "review": torch.arange(2),
        "windows": torch.ones(2),
        "label": torch.tensor([0.0, 1.0]),
    }
    losses = {}
    for name, arguments in {"plain": {}, "l1": {"l1": 0.5}, "smooth": {"label_smoothing": 0.2}}.items():
        module = module_of(dropout=0.0, encoder_dropout=0.0, **arguments)
        losses[name] = (module._step(batch, "train").item(), module._step(batch, "val").item())
    weight = module_of().head.weight.abs().sum().item()
    assert losses["l1"][0] == pytest.approx(losses["plain"][0] + 0.5 * weight, rel=1e-5)
    assert losses["smooth"][0] != losses["plain"][0]
    assert losses["l1"][1] == losses["smooth"][1] == losses["plain"][1]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["--model.freeze_layers", "9"], ["--model.freeze_layers 9", "2 layers"]),
        (["--model.schedule", "steps"], ["--model.schedule steps", "cosine"]),
        (["--data.max_tokens", "500"], ["--data.max_tokens 500", "64"]),
        (["--data.word_dropout", "1.5"], ["--data.word_dropout 1.5"]),
        (["--data.word_dropout", "0.1"], ["--model.cache_frozen", "--data.word_dropout"]),
        (["--data.random_windows", "true"], ["--model.cache_frozen", "--data.random_windows"]),
        (["--data.encoder", "./nowhere"], ["--data.encoder ./nowhere"]),
        (["--data.encoder", "no-such/encoder"], ["--data.encoder no-such/encoder"]),
        (["--data.dataset", "unknown"], ["unknown"]),
    ],
)
def test_mistakes_are_one_sentence(
    overrides: list[str],
    words: list[str],
    small_dataset: Callable[..., Dataset],
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    encoders._hub_answers.cache_clear()
    small_dataset(reviews=120)
    assert train_tiny("quick", tiny, "small", *overrides) == 2
    error = capfd.readouterr().err
    sentence = next(line for line in error.splitlines() if line.startswith("error: "))
    assert all(word in sentence for word in words), sentence
    assert "Traceback" not in error
    assert current_run("small", "sentiment") is None


def test_reviews_without_labels_are_refused(
    small_dataset: Callable[..., Dataset], tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small_dataset(reviews=30)
    assert train_tiny("quick", tiny) == 2
    assert "at least 20 of each" in capfd.readouterr().err


def test_evaluate_keeps_its_result_and_leaves_current_alone(
    small_dataset: Callable[..., Dataset], tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small_dataset(reviews=120)
    config = tmp_path / "tiny.yaml"
    text = Path("nlp/configs/quick.yaml").read_text()
    config.write_text(
        text.replace("freeze_layers: 3", "freeze_layers: 1").replace("max_tokens: 128", "max_tokens: 32")
        + f"    encoder: {tiny}\n"
    )
    arguments = ["evaluate", "--data.dataset", "small", "--config", str(config)]
    assert main(arguments) == 0
    first = capfd.readouterr().out
    assert "TF-IDF + logistic regression" in first
    assert current_run("small", "sentiment") is None
    assert main(arguments) == 0
    again = capfd.readouterr().out
    assert again.startswith("Kept from")
    assert first.splitlines()[-1] == again.splitlines()[-1]
    assert main(["evaluate", "--config", str(tmp_path / "none.yaml"), "--data.dataset", "small"]) == 2


def test_a_run_predicts_without_the_encoder_that_it_came_from(
    small_dataset: Callable[..., Dataset], tiny: Path, tmp_path: Path
) -> None:
    from nlp.scorer import load_current

    small_dataset(reviews=120)
    elsewhere = tmp_path / "encoder"
    shutil.copytree(tiny, elsewhere)
    assert train_tiny("quick", elsewhere, "small", "--trainer.max_epochs", "1") == 0
    before = load_current("small").predict(["a wonderful film", "dull"])
    shutil.rmtree(elsewhere)
    pd.testing.assert_frame_equal(before, load_current("small").predict(["a wonderful film", "dull"]))


def test_unknown_architectures_are_refused() -> None:
    with pytest.raises(UserError, match="layers of a Linear are not known"):
        encoders.layers_of(torch.nn.Linear(2, 2))
