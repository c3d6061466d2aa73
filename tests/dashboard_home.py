"""Score tables and finished runs for a small dataset, written by hand: what the dashboard reads, without a training."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa

from data import home, schema
from data.atomic import write_json, write_text
from data.dataset import Dataset, write_parquet
from nlp.replies import draft_replies
from nlp.triage import priorities

RUN = "20240601-120000-ab12"
MODELS = {
    "recommender": ("ndcg@10", True, {"NeuMF": 0.08, "EASE": 0.07, "popularity": 0.04}),
    "sentiment": ("accuracy", True, {"MiniLM": 0.83, "TF-IDF": 0.77}),
    "engagement": ("relmae", False, {"LSTM": 0.9, "seasonal naive": 1.0}),
    "retention": ("auroc", True, {"LSTM": 0.7, "logistic regression": 0.72}),
}


def write_run(data: Dataset, model: str, *, fingerprint: str | None = None, recipe: dict | None = None) -> str:
    """A finished run that is in use; its figures are made up. Returns its id."""
    metric, higher, values = MODELS[model]
    folder = home.runs(data.name, model) / RUN
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    (folder / "model.ckpt").write_bytes(b"weights")
    curve = pd.DataFrame(
        {"epoch": [0, 0, 1, 1], "train_loss": [0.9, None, 0.5, None], "val_loss": [None, 0.8, None, 0.6]}
    )
    curve.to_csv(folder / "logs" / "metrics.csv", index=False)
    report = {
        "run_id": RUN,
        "model": model,
        "dataset": data.name,
        "fingerprint": fingerprint or data.fingerprint,
        "created_at": "2024-06-01T12:00:00+00:00",
        "seed": 0,
        "device": "cpu",
        "versions": {"torch": "2.13.0"},
        "seconds": {"fit": 60.0, "total": 90.0},
        "headline": {"metric": metric, "higher_is_better": higher, "split": "test", "ours": next(iter(values))},
        "metrics": {"test": {method: {metric: value} for method, value in values.items()}},
        "split": {"protocol": "made up", "rows": {"train": 100, "test": 10}},
        "refit": {"epochs": 2},
        "notes": ["All figures are from before the refit."],
        "recipe": recipe or {"config": ["other.yaml"], "config_sha256": ["0"], "overrides": []},
    }
    if model in ("sentiment", "retention"):
        bins = [{"predicted": p, "observed": p, "count": 10} for p in (0.1, 0.5, 0.9)]
        report["calibration"] = {"bins": bins, "temperature": 1.3}
    write_json(folder / "report.json", report)
    write_text(folder.parent / "current", RUN + "\n")
    return RUN


def write_recommender(data: Dataset) -> None:
    """Weights for the recommender run, of a small model that has learned nothing, but that can be loaded."""
    import torch

    from recsys.interactions import Vocabulary
    from recsys.neumf import NeuMFModule

    folder = home.runs(data.name, "recommender") / RUN
    users, items = (pd.Index(data.interactions()[name].unique().astype(object)) for name in ("user_id", "item_id"))
    Vocabulary(users, items).save(folder, np.ones(len(items), np.int64))
    module = NeuMFModule(len(users), len(items), gmf_size=2, mlp_size=2, mlp_layers=[2])
    kept = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    torch.save(kept | {"pytorch-lightning_version": "2.6.6"}, folder / "model.ckpt")
    report = json.loads((folder / "report.json").read_text()) | {"class": "recsys.neumf.NeuMFModule"}
    write_json(folder / "report.json", report)


def write_scores(data: Dataset, table: str, frame: pd.DataFrame) -> None:
    folder = home.scores(data.name)
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in schema.SCORES[table].names if name in frame or name not in schema.OPTIONAL.get(table, ())]
    columns = pa.schema([schema.SCORES[table].field(name) for name in names])
    write_parquet(frame, folder / f"{table}.parquet", columns)


def recommendations(data: Dataset, k: int = 15) -> pd.DataFrame:
    """The first k unseen titles of each member in catalogue order, with the first seen one as the reason."""
    events, items = data.interactions(), data.items()["item_id"]
    parts = []
    for user, seen in events.groupby("user_id")["item_id"]:
        fresh = items[~items.isin(seen)].head(k).to_numpy()
        parts.append(
            pd.DataFrame(
                {
                    "user_id": user,
                    "rank": np.arange(1, len(fresh) + 1, dtype="int32"),
                    "item_id": fresh,
                    "score": np.linspace(3, 1, len(fresh)),
                    "reason_item_id": seen.iloc[0],
                    "reason_share": 0.5,
                    "run_id": RUN,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def review_scores(data: Dataset, n: int) -> pd.DataFrame:
    """Two of three reviews speak of the story, each fourth of the acting too, in the same sentence: all their text."""
    reviews = data.reviews().head(n)
    p = np.where(reviews["label"] == "positive", 0.9, 0.1)
    aspects = [
        [
            {"aspect": aspect, "p_positive": float(p[i]), "start": 0, "end": len(text)}
            for aspect, there in (("story", i % 3 > 0), ("acting", i % 4 == 0))
            if there
        ]
        for i, text in enumerate(reviews["text"])
    ]
    scored = pd.DataFrame(
        {
            "review_id": reviews["review_id"],
            "label": reviews["label"],
            "p_positive": p,
            "aspects": aspects,
            "item_id": reviews["item_id"],
            "link_confidence": np.where(reviews["item_id"].isna(), np.nan, 1.0),
            "run_id": RUN,
        }
    )
    known = scored.assign(text=reviews["text"], created_at=reviews["created_at"])
    if data.has("items"):
        items = data.items()
        known["title"] = known["item_id"].map(dict(zip(items["item_id"], items["title"], strict=True)))
    return scored.assign(priority=priorities(known, data.as_of), reply_draft=draft_replies(known))


def forecast(
    data: Dataset, series: tuple[str, ...] = ("total", "active_members", "genre:Drama", "title:i0")
) -> pd.DataFrame:
    assert data.as_of is not None
    dates = pd.date_range(data.as_of.floor("D") + pd.Timedelta(days=1), periods=28, freq="D")
    level = np.full(28, 10.0)
    quantiles = {"q05": 0.5, "q25": 0.8, "q50": 1.0, "q75": 1.2, "q95": 1.6, "mean": 1.0}
    columns = {name: level * factor for name, factor in quantiles.items()}
    return pd.concat(
        [pd.DataFrame({"series_id": s, "date": dates, **columns, "run_id": RUN}) for s in series], ignore_index=True
    )


def retention(data: Dataset) -> pd.DataFrame:
    assert data.as_of is not None
    last = data.interactions().groupby("user_id")["timestamp"].max()
    days = (data.as_of - last).dt.total_seconds() / 86400
    return pd.DataFrame(
        {
            "user_id": days.index,
            "p_return": np.exp(-days.to_numpy() / 30).clip(0.02, 0.98),
            "horizon_days": np.int32(30),
            "band": None,
            "days_since_last": days.to_numpy(),
            "top_reason": None,
            "run_id": RUN,
        }
    )


def write_everything(data: Dataset) -> None:
    """All four runs and all four score tables; a part of the reviews stays unscored."""
    for model in MODELS:
        write_run(data, model)
    write_scores(data, "recommendations", recommendations(data))
    if data.has("reviews"):
        write_scores(data, "review_scores", review_scores(data, data.rows["reviews"] // 2))
    write_scores(data, "engagement_forecast", forecast(data))
    write_scores(data, "retention", retention(data))
