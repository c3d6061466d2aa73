"""A home on the whole road: real data fetched, four short trainings, four score tables, each made by its own command.

The trainings are the quick configs cut to a minute in all: what is tested is that everything fits together, not how
good the models are.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CUT = {
    "recommender": ["--trainer.max_epochs", "2"],
    "sentiment": ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "20"],
    "engagement": ["--trainer.max_epochs", "2"],
    "retention": ["--trainer.max_epochs", "2"],
}
FITS = {
    "recommender": ["-m", "recsys", "fit", "--config", "recsys/configs/quick.yaml"],
    "sentiment": ["-m", "nlp", "fit", "--config", "nlp/configs/quick.yaml"],
    "engagement": ["-m", "forecasting", "fit", "--config", "forecasting/configs/engagement-quick.yaml"],
    "retention": ["-m", "forecasting", "fit", "--config", "forecasting/configs/retention-quick.yaml"],
}
SCORES = {
    "recommendations": ["recommend", "--top-k", "50"],
    "review_scores": ["reviews", "--limit", "60"],
    "engagement_forecast": ["engagement"],
    "retention": ["retention"],
}


def run(home: Path, *arguments: str) -> str:
    """Run a command as a user would; returns what it prints."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "MARQUEE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, f"{' '.join(arguments)}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    assert "Traceback" not in result.stderr
    return result.stdout


def make(home: Path) -> Path:
    """Go the road in an empty home."""
    run(home, "-m", "data", "fetch", "demo")
    for model, fit in FITS.items():
        run(home, *fit, "--data.dataset", "demo", *CUT[model])
    for score in SCORES.values():
        run(home, "score.py", *score, "--dataset", "demo")
    return home
