"""The gate: what is worse than the run in use, beyond chance, does not take its place."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_package
import yaml

from data import gate, home, runs, training
from data.atomic import write_json
from data.cases import difference, read_cases, write_cases
from data.command import EXIT_HELD_BACK
from data.dataset import Dataset
from data.intervals import delong
from data.package import Package

BAD = ("--model.learning_rate", "0.0001")


@pytest.fixture
def fit(small_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Trains the toy on dataset 'small'; `baseline` is the loss of its baseline."""
    small_dataset(n_users=4, n_items=20, reviews=0)
    config = tmp_path / "toy-config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "trainer": {"max_epochs": 4, "accelerator": "cpu", "enable_progress_bar": False},
                "model": {"class_path": "toy_package.Toy", "init_args": {"learning_rate": 0.2}},
                "data": {"class_path": "toy_package.ToyData"},
            }
        )
    )

    trained: list[int] = []

    def run(*flags: str, baseline: float = 4.0) -> int:
        def measure(*arguments: Any) -> dict[str, Any]:
            found = toy_package.measure(*arguments)
            found["metrics"]["test"]["nothing"]["loss"] = baseline
            return found

        trained.append(1)  # ids of one second would have no order
        monkeypatch.setenv(runs.RUN_ID_VARIABLE, f"202401{len(trained):02d}-000000-aaaa")
        package: Package = replace(toy_package.PACKAGE, measure=measure)
        return training.main(package, ["fit", "--config", str(config), "--data.dataset", "small", *flags])

    return run


def current() -> str:
    run = runs.current_run("small", "recommender")
    return "" if run is None else run.name


def newest() -> runs.Run:
    return runs.list_runs("small", "recommender")[0]


def promote(*words: str) -> int:
    return training.main(toy_package.PACKAGE, ["promote", *words])


def test_a_worse_run_is_kept_aside_until_it_is_forced(
    fit: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit() == 0
    first = current()
    assert newest().report["gate"]["used"] is True
    capsys.readouterr()
    assert fit(*BAD) == 0
    worse = newest()
    assert (current(), worse.is_current) == (first, False)
    assert worse.report["gate"]["used"] is False
    out = capsys.readouterr().out
    assert f"run {worse.id} was not put into use, run {first} stays in use. It is worse than the run in use: " in out
    assert f"'python -m recsys promote {worse.id} --force'" in out
    assert promote(worse.id) == 2
    assert current() == first
    error = capsys.readouterr().err
    assert error.startswith(f"error: Run {worse.id} was not put into use. It is worse than the run in use: ")
    assert error.endswith("--force does it all the same.\n")
    assert promote("--force", worse.id) == 0
    assert current() == worse.id
    assert "It is worse than the run in use" in capsys.readouterr().out
    assert promote(first) == 0  # back to the better one needs no force
    assert current() == first


def test_a_pipeline_may_fail_on_it_or_switch_it_off(fit: Callable[..., int]) -> None:
    assert fit("--gate", "fail") == 0
    first = current()
    assert fit("--gate", "fail", *BAD) == EXIT_HELD_BACK == 3
    assert current() == first
    assert fit("--gate", "off", *BAD) == 0
    assert current() == newest().id != first
    assert newest().report["gate"]["why"].startswith("It is worse than the run in use")


def test_another_word_for_the_gate_is_a_sentence(fit: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--gate", "maybe") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--gate" in error
    assert "maybe" in error


def test_the_first_run_serves_even_below_its_baseline(
    fit: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(baseline=-1.0) == 0
    assert current() == newest().id
    out = capsys.readouterr().out
    assert "Warning: It is worse than its best baseline, nothing: " in out
    assert "and nothing else is there to serve." in out


def test_a_pipeline_gets_no_first_run_below_its_baseline(fit: Callable[..., int]) -> None:
    assert fit("--gate", "fail", baseline=-1.0) == EXIT_HELD_BACK
    assert current() == ""
    assert newest().report["gate"]["used"] is False


def test_new_tables_are_judged_by_the_baseline_alone(
    fit: Callable[..., int], small_dataset: Callable[..., Dataset], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit() == 0
    first = current()
    data = small_dataset(n_users=5, n_items=20, reviews=0)
    assert fit(baseline=-1.0) == 0
    assert current() == first
    assert "It is worse than its best baseline, nothing" in capsys.readouterr().out
    held = gate.held_back("small", "recommender", data.fingerprint)
    assert held is not None
    assert held.id == newest().id
    assert fit(*BAD) == 0  # other tables: how much worse it is than the run in use is not known
    assert current() == newest().id
    assert gate.held_back("small", "recommender", data.fingerprint) is None
    assert "they do not compare" in capsys.readouterr().out


def test_behind_a_baseline_like_the_one_in_use(fit: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(baseline=-1.0) == 0
    first = current()
    assert fit(baseline=-1.0) == 0
    assert current() != first
    assert "and so is the run in use." in capsys.readouterr().out


# Two runs with cases ------------------------------------------------------------------------------------------------


def made(name: str, ours: np.ndarray, *, other: np.ndarray | None = None, label: np.ndarray | None = None,
         higher: bool = True, value: float | None = None, **report: Any) -> Path:  # fmt: skip
    """A finished run with cases; its headline is their mean unless `value` is given."""
    folder = home.runs("small", "recommender") / name
    folder.mkdir(parents=True)
    (folder / "model.ckpt").write_bytes(b"weights")
    methods = {"Net": ours} | ({} if other is None else {"baseline": other})
    write_cases(folder, [f"u{i}" for i in range(len(ours))], methods, label)
    figures = {m: {"ndcg@10": float(v.mean()) if value is None else value} for m, v in methods.items()}
    headline = {"metric": "ndcg@10", "higher_is_better": higher, "split": "test", "ours": "Net"}
    content = {
        "fingerprint": "f",
        "split": {"protocol": "p", "seed": 1},
        "metrics": {"test": figures},
        "headline": headline,
    }
    write_json(folder / "report.json", content | report)
    return folder


def ruled(one: Path, other: Path | None) -> gate.Ruling:
    return gate.judge(one, runs.read_report(one), other)


def noise(size: float, n: int = 400) -> np.ndarray:
    drawn = np.random.default_rng(3).normal(0, size, n)
    return drawn - drawn.mean()


@pytest.mark.parametrize("higher", [True, False])
def test_a_small_but_steady_loss_is_told_from_a_large_but_random_one(marquee_home: Path, higher: bool) -> None:
    base = np.random.default_rng(1).random(400)
    worse = -1 if higher else 1
    served = made("20240101-000000-aaaa", base, higher=higher)
    steady = made("20240102-000000-bbbb", base + worse * 0.004 + noise(0.01), higher=higher)
    random = made("20240103-000000-cccc", base + worse * 0.02 + noise(1.0), higher=higher)
    assert not ruled(steady, served).passes
    assert "paired bootstrap over 400 cases" in ruled(steady, served).why
    within = ruled(random, served)
    assert within.passes
    assert within.told[0].startswith("It is below the run in use, within what chance explains")
    assert ruled(served, steady).passes
    assert ruled(served, steady).told[0].startswith("It is not worse than the run in use")


def test_baselines_are_paired_too(marquee_home: Path) -> None:
    base = np.random.default_rng(1).random(400)
    served = made("20240101-000000-aaaa", base, other=base - 0.1)
    behind = made("20240102-000000-bbbb", base, other=base + 0.01 + noise(0.02))
    assert ruled(behind, served).why.startswith("It is worse than its best baseline, baseline: NDCG@10 ")
    assert ruled(behind, None).passes
    assert ruled(behind, behind).passes
    assert ruled(made("20240103-000000-cccc", base, other=base + noise(1.0)), served).passes


def test_what_is_kept_of_the_pairs_in_a_report_is_used(marquee_home: Path) -> None:
    """Runs of an earlier version have no cases, but the recommender's report has its intervals."""
    base = np.random.default_rng(1).random(400)
    paired = {"paired_ndcg@10": {"baseline": [-0.03, -0.05, -0.01]}}
    old = made("20240101-000000-aaaa", base, other=base + 0.03, **paired)
    (old / "cases.parquet").unlink()
    assert "95 % interval of the difference −0.0500 to −0.0100, paired bootstrap)" in ruled(old, None).doubts[0]


def test_without_cases_the_half_width_or_two_percent_passes(marquee_home: Path) -> None:
    flat = np.full(50, 0.5)
    served = made("20240101-000000-aaaa", flat, value=0.100)
    close = made("20240102-000000-bbbb", flat, value=0.0985)
    far = made("20240103-000000-cccc", flat, value=0.0975)
    for run in (served, close, far):
        (run / "cases.parquet").unlink()
    assert ruled(close, served).passes
    assert not ruled(far, served).passes
    report = runs.read_report(served)
    report["metrics"]["test"]["Net"]["±"] = 0.004
    write_json(served / "report.json", report)
    assert ruled(far, served).passes
    assert "±0.0040 passes for chance" in ruled(far, served).told[0]


@pytest.mark.parametrize(
    "change",
    [{"fingerprint": "g"}, {"split": {"protocol": "p", "seed": 2}}, {"split": {"protocol": "q", "seed": 1}}],
)
def test_other_tables_or_splits_do_not_compare(marquee_home: Path, change: dict[str, Any]) -> None:
    served = made("20240101-000000-aaaa", np.full(50, 0.9))
    other = made("20240102-000000-bbbb", np.full(50, 0.1), **change)
    assert ruled(other, served).passes
    assert "they do not compare" in ruled(other, served).told[0]


def test_a_run_without_a_figure_is_let_through_with_a_word(marquee_home: Path) -> None:
    served = made("20240101-000000-aaaa", np.full(50, 0.9))
    unknown = made("20240102-000000-bbbb", np.full(50, 0.1), metrics={"test": {"Net": {"ndcg@10": None}}})
    assert ruled(unknown, served) == gate.Ruling(
        True, doubts=("Its report holds no headline figure, so nobody knows how good it is.",)
    )


def test_a_damaged_report_in_use_holds_nobody_back(marquee_home: Path) -> None:
    served, new = made("20240101-000000-aaaa", np.full(50, 0.9)), made("20240102-000000-bbbb", np.full(50, 0.1))
    (served / "report.json").write_text("{")
    assert ruled(new, served).passes


def test_cases_pair_by_id_and_only_where_they_are_the_same(marquee_home: Path) -> None:
    values = np.random.default_rng(1).random(100)
    one, other = made("20240101-000000-aaaa", values), made("20240102-000000-bbbb", values)
    order = np.random.default_rng(2).permutation(100)
    write_cases(other, [f"u{i}" for i in order], {"Net": values[order] - 0.5})
    found = difference(one, "Net", other, "Net")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.5, 0.5), abs=1e-6)
    write_cases(other, [f"v{i}" for i in range(100)], {"Net": values})
    assert difference(one, "Net", other, "Net") is None
    write_cases(other, ["u0"] * 100, {"Net": values})
    assert difference(one, "Net", other, "Net") is None
    (other / "cases.parquet").write_bytes(b"no parquet")
    assert read_cases(other) is None
    assert difference(one, "Net", other, "Net") is None


# DeLong -------------------------------------------------------------------------------------------------------------


def auroc(label: np.ndarray, score: np.ndarray) -> float:
    above = score[label == 1][:, None] - score[label == 0]
    return float(np.where(above > 0, 1.0, np.where(above == 0, 0.5, 0.0)).mean())


def test_delong_by_its_definition() -> None:
    generator = np.random.default_rng(0)
    label = (generator.random(60) < 0.4).astype(float)
    one, other = (np.round(label + generator.normal(0, s, 60), 1) for s in (1.0, 1.5))  # rounded: with ties
    parts = []
    for score in (one, other):
        psi = score[label == 1][:, None] - score[label == 0]
        psi = np.where(psi > 0, 1.0, np.where(psi == 0, 0.5, 0.0))
        parts.append((psi.mean(1), psi.mean(0)))
    variance = sum(np.var(parts[0][i] - parts[1][i], ddof=1) / len(parts[0][i]) for i in (0, 1))
    middle = auroc(label, one) - auroc(label, other)
    assert delong(label, one, other) == pytest.approx((middle - 1.96 * variance**0.5, middle + 1.96 * variance**0.5))


def test_delong_covers_the_truth_as_often_as_it_says() -> None:
    """Two equally good scores: the interval of their difference holds 0 in about 95 of 100."""
    generator, inside = np.random.default_rng(0), 0
    for _ in range(400):
        label = (generator.random(150) < 0.3).astype(float)
        low, high = delong(label, label + generator.normal(0, 1, 150), label + generator.normal(0, 1, 150))
        inside += low <= 0 <= high
    assert 0.92 <= inside / 400 <= 0.98


def test_too_few_of_a_kind_have_no_interval() -> None:
    assert np.isnan(delong(np.array([1.0, 0.0, 0.0]), np.arange(3), np.arange(3))).all()


def test_aurocs_are_compared_by_delong(marquee_home: Path) -> None:
    generator = np.random.default_rng(0)
    label = (generator.random(600) < 0.3).astype(float)
    good, bad = label + generator.normal(0, 1, 600), label + generator.normal(0, 4, 600)
    served = made("20240101-000000-aaaa", good, label=label, value=auroc(label, good))
    worse = made("20240102-000000-bbbb", bad, label=label, value=auroc(label, bad))
    assert "DeLong over 600 cases" in ruled(worse, served).why


def test_reports_of_old_runs_have_no_gate(marquee_home: Path) -> None:
    made("20240101-000000-aaaa", np.full(50, 0.9))
    assert gate.held_back("small", "recommender", "f") is None
    assert json.loads(json.dumps(ruled(newest().folder, None).as_json(True, "keep")))["used"] is True
