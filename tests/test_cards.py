"""Model cards: what they say is what the run's report, configuration and cases say."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dashboard_home as made
import numpy as np
import pytest
from huggingface_hub import ModelCard

from data import home, runs
from data.atomic import write_json
from data.card import card
from data.card_words import USES, limits
from data.cases import write_cases
from data.dataset import Dataset
from forecasting.__main__ import main as forecasting
from recsys.__main__ import main as recsys

FIT = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--model.size=8"]


def report_of(**changes: Any) -> dict[str, Any]:
    """A report as a fit writes it, with a headline in which ours is 0.30 and a baseline 0.20."""
    table = {"Net": {"ndcg@10": 0.3}, "base": {"ndcg@10": 0.2}}
    headline = {"metric": "ndcg@10", "higher_is_better": True, "split": "test", "ours": "Net"}
    return {"metrics": {"test": table}, "headline": headline} | changes


def test_every_fit_leaves_a_card_that_agrees_with_its_report(
    small_dataset: Callable[..., Dataset], capsys: pytest.CaptureFixture[str]
) -> None:
    data = small_dataset(reviews=0)
    assert recsys(["fit", "--config", "recsys/configs/quick.yaml", "--data.dataset=small", *FIT]) == 0
    run = runs.require_run("small", "recommender")
    text, report = (run / "card.md").read_text(), runs.read_report(run)
    found = ModelCard(text)
    results = {r.metric_type: r.metric_value for r in found.data.eval_results or []}
    ours = report["metrics"]["test"]["HistoryNet"]
    assert results["ndcg@10"] == pytest.approx(ours["ndcg@10"], abs=1e-5)
    assert found.data.model_name == f"recommender-small-{run.name}"
    assert f"fingerprint {data.fingerprint}" in text
    assert f"{data.rows['interactions']:,} rows of interactions" in text
    assert "Interactions from 2024-01-01 to 2024-04-" in text
    assert f"| **HistoryNet** | {ours['hr@10']:.3f} | {ours['ndcg@10']:.3f} |" in text
    assert "| model.size | 8 |" in text
    assert "python -m recsys fit --config recsys/configs/quick.yaml --data.dataset=small --trainer.max_epochs=1" in text
    assert f"SHA-256 of the configuration: {report['recipe']['config_sha256'][0]}" in text
    assert re.search(
        r"popularity: NDCG@10 [+-]0\.\d{4} to [+-]0\.\d{4} \(95 % interval, paired bootstrap over 60", text
    )
    assert "Interactions: 1," in text  # the readiness of the data is among the limits
    assert "It was put into use." in text
    (run / "card.md").unlink()
    capsys.readouterr()
    assert recsys(["card", "--data.dataset", "small"]) == 0
    assert capsys.readouterr().out == f"Wrote {run / 'card.md'}.\n"
    assert (run / "card.md").read_text() == text
    assert recsys(["card", run.name]) == 0


@pytest.mark.parametrize("model", runs.MODELS)
def test_a_run_of_an_earlier_version_has_a_card_too(small_dataset: Callable[..., Dataset], model: str) -> None:
    """Without cases, gate, facts of the data or config.yaml, and with the dataset gone."""
    data = small_dataset("demo")
    made.write_run(data, model, fingerprint="an earlier one")
    text = card(home.runs("demo", model) / made.RUN)
    assert ModelCard(text).data.to_dict()["tags"] == ["marquee", model]
    assert "what it held is not known" in text
    assert "trained before there was a gate" in text
    assert USES[model].intended in text


def test_a_run_whose_dataset_is_gone_has_a_card(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset("demo")
    made.write_run(data, "recommender")
    shutil.rmtree(data.folder)
    assert "what it held is not known" in card(home.runs("demo", "recommender") / made.RUN)


@pytest.mark.parametrize("content", ["- a list", "trainer: 3", "{broken", "model: {init_args: 3}"])
def test_a_configuration_that_no_fit_has_written_is_left_out(
    content: str, small_dataset: Callable[..., Dataset]
) -> None:
    made.write_run(small_dataset("demo"), "recommender")
    run = home.runs("demo", "recommender") / made.RUN
    (run / "config.yaml").write_text(content)
    assert "| setting |" not in card(run)


def test_both_forecasters_or_none(small_dataset: Callable[..., Dataset], capsys: pytest.CaptureFixture[str]) -> None:
    data = small_dataset("demo")
    assert forecasting(["card"]) == 2
    assert "There is no trained engagement" in capsys.readouterr().err
    for model in ("engagement", "retention"):
        made.write_run(data, model)
    assert forecasting(["card"]) == 0
    assert capsys.readouterr().out.count("card.md.") == 2
    assert forecasting(["card", "nonsense"]) == 2
    assert forecasting(["card", "--nonsense"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_report_without_figures_is_a_card_without_figures(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset("demo")
    made.write_run(data, "recommender")
    run = home.runs("demo", "recommender") / made.RUN
    write_json(run / "report.json", {"run_id": made.RUN, "model": "recommender", "dataset": "demo"})
    text = card(run)
    assert "It was trained without measuring." in text
    assert "nobody knows how good it is" in text


def test_bars_and_markup_in_names_do_not_break_the_tables(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset("demo")
    made.write_run(data, "recommender")
    run = home.runs("demo", "recommender") / made.RUN
    report = json.loads((run / "report.json").read_text())
    report["metrics"]["test"]["a|b"] = {"ndcg@10": 0.01}
    write_json(run / "report.json", report)
    assert "| a\\|b | 0.010 |" in card(run)


# What the figures warn of ---------------------------------------------------------------------------------------------


def said(**changes: Any) -> str:
    return " ".join(limits(report_of(**changes)))


def test_a_part_where_a_baseline_is_better_is_named() -> None:
    table = report_of()["metrics"]["test"]
    parts = {"test: long": {"Net": {"ndcg@10": 0.1, "reviews": 40}, "base": {"ndcg@10": 0.15}},
             "test: short": {"Net": {"ndcg@10": 0.4}, "base": {"ndcg@10": 0.1}}}  # fmt: skip
    text = said(metrics={"test": table, **parts})
    assert "On long (40 reviews) base was better: NDCG@10 0.150 to 0.100." in text
    assert "On short" not in text
    assert "It is weakest on long: NDCG@10 0.100, 0.300 on all." in text


def test_lower_may_be_better() -> None:
    headline = report_of()["headline"] | {"higher_is_better": False}
    table = {"Net": {"ndcg@10": 0.3}, "base": {"ndcg@10": 0.2}}
    text = said(headline=headline, metrics={"test": table, "test: a": table, "test: b": {"Net": {"ndcg@10": 0.1}}})
    assert "On a base was better" in text
    assert "It is weakest on a" in text


@pytest.mark.parametrize(("ece", "words"), [(0.12, "read them as ranks"), (0.01, "off by 1.0% on average")])
def test_calibration_is_told(ece: float, words: str) -> None:
    assert words in said(calibration={"ece_after": ece})
    assert ("as ranks" in said(calibration={"ece_after": ece})) == (ece > 0.05)


@pytest.mark.parametrize(("coverage", "words"), [(0.7, "narrower"), (0.99, "wider"), (0.88, "")])
def test_intervals_that_promise_too_much_are_told(coverage: float, words: str) -> None:
    text = said(metrics={"test": {"Net": {"ndcg@10": 0.3, "coverage_90": coverage}}})
    assert (f"they are {words} than they say" in text) if words else ("90 % intervals" not in text)


def test_few_cases_and_old_data_are_told() -> None:
    old = said(as_of="1998-04-22T00:00:00+00:00", created_at="2026-11-29T00:00:00+00:00", split={"rows": {"test": 30}})
    assert "29 years before the training" in old
    assert "tested on 30 cases only" in old
    new = said(as_of="2026-10-22T00:00:00+00:00", created_at="2026-11-29T00:00:00+00:00", split={"rows": {"test": 300}})
    assert new == ""


def test_intervals_come_from_the_cases(small_dataset: Callable[..., Dataset]) -> None:
    data = small_dataset("demo")
    made.write_run(data, "sentiment")
    run = home.runs("demo", "sentiment") / made.RUN
    right = np.r_[np.ones(60), np.zeros(40)]
    write_cases(run, range(100), {"MiniLM": right, "TF-IDF": np.r_[np.ones(50), np.zeros(50)]})
    interval = re.search(r"TF-IDF: Accuracy \+(\S+) to \+(\S+) \(95 % interval, paired bootstrap over 100", card(run))
    assert interval is not None
    assert float(interval[1]) < 0.1 < float(interval[2])


def test_a_card_is_written_whole(small_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    data = small_dataset("demo")
    made.write_run(data, "retention")
    run = home.runs("demo", "retention") / made.RUN
    assert forecasting(["card", str(run)]) == 0
    assert not list(run.glob("*.tmp"))
