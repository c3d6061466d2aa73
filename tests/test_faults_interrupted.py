"""Ctrl-C while a command still loads: one sentence and exit code 130, though nobody is there yet to catch it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("command", ["-m recsys fit", "-m nlp fit", "-m forecasting fit", "score.py recommend"])
def test_while_it_loads(command: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", *command.split()],  # tells on stderr what has been loaded
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MARQUEE_HOME": str(tmp_path / "home")},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().endswith(" data.interrupted"):
            break
    process.send_signal(signal.SIGINT)
    said = [line for line in process.communicate(timeout=60)[1].splitlines() if not line.startswith("import time:")]
    assert process.returncode == 130
    assert [line for line in said if line] == ["Interrupted: nothing was begun, everything is as it was."]
    assert not (tmp_path / "home").exists()
