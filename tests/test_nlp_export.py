"""Engines: the same network in every form, chosen by measurement, and used only where it was measured."""

import json
import time
from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from conftest import BAD, GOOD, PLAIN, generated_tables
from tiny_encoder import write_tiny_encoder
from torch import Tensor, nn

from data.dataset import Source, write_dataset
from data.errors import UserError
from nlp import encoder as encoders
from nlp import engines
from nlp import export as module
from nlp.engines import Engine, TokenOutputs, engine_name, load_engine, token_outputs
from nlp.export import export, export_command
from nlp.sentiment import SentimentModule
from nlp.tokens import cut, frame_of, tokenise

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = [f"{' '.join(PLAIN)} " * (i % 5) + f"a {word} film" for i in range(6) for word in (*GOOD, *BAD)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with a tokenizer; the weights are random, and larger than at the start of a training."""
    write_tiny_encoder(tmp_path / "run" / "encoder")
    return tmp_path / "run"


@pytest.fixture
def sentiment(run: Path) -> SentimentModule:
    torch.manual_seed(1)
    made = SentimentModule(str(run / "encoder"), max_tokens=32).eval()
    with torch.no_grad():
        for parameter in made.encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        made.head.weight.normal_()
    return made


def with_aspects(sentiment: SentimentModule, layer: int = 1) -> TokenOutputs:
    torch.manual_seed(2)
    return TokenOutputs(sentiment.encoder, sentiment.head, nn.Linear(sentiment.size, 4), layer).eval()


def padded(windows: int, tokens: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(windows)
    size = torch.randint(1, tokens + 1, (windows,))
    return torch.randint(5, 40, (windows, tokens)), torch.arange(tokens)[None, :] < size[:, None]


def test_token_logits_average_to_the_modules_logit(sentiment: SentimentModule) -> None:
    ids, mask = padded(6, 11)
    batch = {"input_ids": ids, "mask": mask, "padded": True, "review": torch.arange(6), "windows": torch.ones(6)}
    with torch.inference_mode():
        (logits,) = token_outputs(sentiment)(ids, mask)
        sentiment.hparams["cpu_bfloat16"] = False
        expected = sentiment(batch)
    assert torch.allclose(engines.window_logits(logits, mask), expected, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_aspects_read_the_layer_asked_for(sentiment: SentimentModule, layer: int) -> None:
    outputs = with_aspects(sentiment, layer)
    ids, mask = padded(3, 7)
    with torch.inference_mode():
        states = sentiment.encoder.embeddings(input_ids=ids)
        for each in encoders.layers_of(sentiment.encoder)[:layer]:
            states = each(states, attention_mask=encoders.attention(sentiment.encoder, mask))
        assert outputs.aspect_head is not None
        assert torch.allclose(outputs(ids, mask)[1][mask], outputs.aspect_head(states)[mask], atol=1e-5)


@pytest.mark.parametrize("aspects", [False, True])
def test_the_graph_says_what_the_network_says(sentiment: SentimentModule, tmp_path: Path, aspects: bool) -> None:
    outputs = with_aspects(sentiment) if aspects else token_outputs(sentiment)
    engines, reasons = module.engines_of(outputs, tmp_path)
    assert "onnx-int8" not in reasons
    for windows, tokens in ((1, 1), (1, 9), (5, 32), (40, 3)):
        ids, mask = padded(windows, tokens)
        expected = engines["torch-float32"](ids, mask)
        for name, within in (("onnx-float32", 1e-4), ("onnx-int8", 0.3), ("torch-bfloat16", 0.3)):
            found = engines.get(name, engines["torch-float32"])(ids, mask)
            assert found[0].shape == (windows, tokens)
            assert found[0].dtype == torch.float32
            assert float((found[0] - expected[0])[mask].abs().max()) < within
            assert (found[1] is None) == (not aspects)
            if found[1] is not None and expected[1] is not None:
                assert float((found[1] - expected[1])[mask].abs().max()) < within
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "onnx-float32.onnx").graph.node)
    assert counts["MultiHeadAttention"] == 2
    assert counts["Softmax"] == 0
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "onnx-int8.onnx").graph.node)
    assert counts["MatMulInteger"] == 2 * 6  # heads stay as they are


def test_an_attention_that_cannot_be_replaced_is_written_out(
    sentiment: SentimentModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_such() -> None:
        raise NotImplementedError

    monkeypatch.setattr(module, "_register_attention", no_such)
    module.write_graph(with_aspects(sentiment), tmp_path / "plain.onnx")
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "plain.onnx").graph.node)
    assert counts["Softmax"] == 2
    ids, mask = padded(4, 6)
    ours = engines.onnx_engine(tmp_path / "plain.onnx")(ids, mask)[0]
    assert torch.allclose(ours[mask], engines.torch_engine(token_outputs(sentiment))(ids, mask)[0][mask], atol=1e-4)


def test_a_graph_that_ignores_the_mask_is_refused(sentiment: SentimentModule, tmp_path: Path) -> None:
    class Deaf(TokenOutputs):
        def forward(self, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
            return super().forward(input_ids, mask | True)

    outputs = token_outputs(sentiment)
    deaf = Deaf(outputs.encoder, outputs.head).eval()
    module.write_graph(deaf, tmp_path / "deaf.onnx")
    with pytest.raises(RuntimeError, match="disagrees"):
        module._check(outputs, tmp_path / "deaf.onnx")


def test_export_keeps_the_quickest_and_says_so(sentiment: SentimentModule, run: Path) -> None:
    rows = export(sentiment, run, TEXTS, seconds=0.2)
    assert tuple(rows) == engines.ENGINES
    measured = {name: row for name, row in rows.items() if "reason" not in row}
    assert {"torch-float32", "onnx-float32", "onnx-int8"} <= set(measured)
    best = max((n for n, r in measured.items() if r["eligible"]), key=lambda n: measured[n]["tokens_per_second"])
    assert [name for name, row in measured.items() if row["chosen"]] == [best]
    assert (
        measured["torch-float32"] | {"speed": 1.0, "changed": 0.0, "max_difference": 0.0} == measured["torch-float32"]
    )
    assert measured["onnx-float32"]["max_difference"] < 1e-4
    assert measured["onnx-int8"]["max_difference"] > 0
    choice = json.loads((run / "engine.json").read_text())
    assert choice["engine"] == best == engine_name(run, sentiment)
    assert choice["sample"]["texts"] == len(TEXTS)
    assert choice["measured"]["onnx-int8"]["changed"] == rows["onnx-int8"]["changed"]
    assert (run / "onnx" / "model.onnx").is_file() == best.startswith("onnx")
    assert {path.name for path in run.iterdir()} <= {"encoder", "engine.json", "onnx"}  # nothing left lying about
    ids, mask = padded(3, 8)
    engine = load_engine(run, sentiment)
    assert torch.allclose(
        engine(ids, mask)[0][mask], engines.torch_engine(token_outputs(sentiment))(ids, mask)[0][mask], atol=0.3
    )


def faked(monkeypatch: pytest.MonkeyPatch, **changes: float) -> None:
    """Engines without ONNX: the quick one's logits are multiplied by `factor`, and `slow` seconds delay it."""

    def engines_of(outputs: TokenOutputs, folder: Path) -> tuple[dict[str, Engine], dict[str, str]]:
        true = engines.torch_engine(outputs)

        def quick(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
            time.sleep(changes.get("slow", 0.0))
            return quick_logits[ids.shape] * changes.get("factor", 1.0), None

        def slow(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
            time.sleep(0.005)
            found = true(ids, mask)
            quick_logits[ids.shape] = found[0]
            return found

        quick_logits: dict[torch.Size, Tensor] = {}
        (folder / "onnx-int8.onnx").write_bytes(b"graph")
        return {"torch-float32": slow, "onnx-int8": quick}, {"onnx-float32": "no", "torch-bfloat16": "no"}

    monkeypatch.setattr(module, "engines_of", engines_of)


def test_an_engine_that_decides_otherwise_is_not_chosen(
    sentiment: SentimentModule, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked(monkeypatch)
    rows = export(sentiment, run, TEXTS, seconds=0.0)
    assert rows["onnx-int8"]["chosen"]
    assert rows["onnx-float32"] == {"reason": "no"}
    assert (run / "onnx" / "model.onnx").read_bytes() == b"graph"
    faked(monkeypatch, factor=-1.0)
    rows = export(sentiment, run, TEXTS, seconds=0.0)
    assert rows["torch-float32"]["chosen"]
    assert not rows["onnx-int8"]["eligible"]
    assert rows["onnx-int8"]["lost"] > module.MOST_LOST
    assert 0 < rows["onnx-int8"]["lost"] < rows["onnx-int8"]["changed"]  # a change costs less than the whole text
    assert not (run / "onnx").exists()
    faked(monkeypatch, slow=0.2)
    assert export(sentiment, run, TEXTS, seconds=0.0)["torch-float32"]["chosen"]


def test_the_choice_serves_only_where_it_was_measured(
    sentiment: SentimentModule, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guess = "torch-bfloat16" if encoders.bfloat16_pays() else "torch-float32"
    assert engine_name(run, sentiment) == guess
    faked(monkeypatch)
    export(sentiment, run, TEXTS, seconds=0.0)
    assert engine_name(run, sentiment) == "onnx-int8"
    with pytest.raises(UserError, match="python -m nlp export"):
        load_engine(run, sentiment)  # the fake graph is none
    with monkeypatch.context() as patch:
        patch.setattr(engines, "cpu_kind", lambda: {"machine": "other", "has": []})
        assert engine_name(run, sentiment) == guess
    with monkeypatch.context() as patch:
        patch.setattr(engines, "installed", lambda *names: False)
        assert engine_name(run, sentiment) == guess
        assert load_engine(run, sentiment)(*padded(2, 3))[0].shape == (2, 3)
    with monkeypatch.context() as patch:
        patch.setattr(encoders, "bfloat16_pays", lambda: False)
        (run / "engine.json").rename(run / "kept.json")
        assert engine_name(run, sentiment) == "torch-float32"
        (run / "kept.json").rename(run / "engine.json")
    with torch.no_grad():
        sentiment.head.bias.add_(1.0)
    assert engine_name(run, sentiment) == guess
    (run / "engine.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        engine_name(run, sentiment)


def test_without_onnx_there_is_still_an_engine(
    sentiment: SentimentModule, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "installed", lambda *names: False)
    rows = export(sentiment, run, TEXTS, seconds=0.0)
    assert "pip install" in rows["onnx-int8"]["reason"]
    assert engine_name(run, sentiment).startswith("torch")
    with pytest.raises(UserError, match="no text"):
        export(sentiment, run, ["", "  "], seconds=0.0)


def test_windows_are_read_once_each_and_in_their_places(sentiment: SentimentModule, run: Path) -> None:
    tokenizer = encoders.tokenizer_of(run)
    frame, tokens = frame_of(tokenizer), tokenise(tokenizer, TEXTS)
    windows = cut(tokens.lengths, 30)
    found = torch.full((len(windows.text),), torch.nan)
    engine = engines.torch_engine(token_outputs(sentiment))
    for index, mask, logits, _ in engines.read(engine, tokens, windows, frame, 100):
        assert mask.numel() <= 100
        assert found[index].isnan().all()
        found[index] = engines.window_logits(logits, mask)
    for text in (0, 17, 40):
        one = tokenise(tokenizer, [TEXTS[text]])
        ((_, mask, logits, _),) = engines.read(engine, one, cut(one.lengths, 30), frame)
        where = torch.from_numpy(windows.text == text)
        assert torch.allclose(found[where].sort()[0], engines.window_logits(logits, mask).sort()[0], atol=1e-5)


def test_the_command_measures_the_run_in_use(
    sentiment: SentimentModule, run: Path, marquee_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset("small", generated_tables(reviews=60), sources=[Source("generated", "generated")])
    with pytest.raises(UserError, match="no trained sentiment model"):
        export_command(["--data.dataset", "small"])
    own = marquee_home / "runs" / "small" / "sentiment" / "20200101-000000-aaaa"
    own.parent.mkdir(parents=True)
    run.rename(own)
    (own.parent / "current").write_text(own.name)
    checkpoint = {
        "state_dict": sentiment.state_dict(),
        "hyper_parameters": dict(sentiment.hparams),
        "pytorch-lightning_version": "2.6.6",
    }
    torch.save(checkpoint, own / "model.ckpt")
    (own / "report.json").write_text("{}")
    export_command(["--data.dataset", "small", "--seconds", "0.1"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in engines.ENGINES)
    assert "is now in use" in printed
    assert (own / "engine.json").is_file()
