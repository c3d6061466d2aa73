"""A kept result answers the same question only: same data, same configuration, same program."""

from pathlib import Path
from typing import Any

import pytest

from data import evaluation, report


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program's text, small enough to change."""
    monkeypatch.setattr(report, "__file__", str(tmp_path / "program" / "data" / "report.py"))
    for name in ("data/report.py", "recsys/model.py", "nlp/model.py"):
        path = tmp_path / "program" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    return tmp_path / "program"


def test_a_result_is_kept_until_what_it_depends_on_changes(small_dataset: Any, package: Path) -> None:
    dataset = small_dataset(reviews=0)
    asked: list[int] = []

    def ask(again: bool = False, **question: Any) -> int:
        def measure() -> dict[str, Any]:
            asked.append(1)
            return {"metrics": {"test": {"ours": {"ndcg": len(asked)}}}, "split": {}, "notes": []}

        found = evaluation.kept(dataset, "recommender", ["--seed", "1"], {"protocol": "a", **question}, measure, again)
        return int(found["metrics"]["test"]["ours"]["ndcg"])

    assert [ask(), ask()] == [1, 1]
    assert ask(again=True) == 2
    assert ask() == 2
    assert ask(protocol="b") == 3
    (package / "nlp" / "model.py").write_text("x = 2\n")
    assert ask() == 2  # another package
    (package / "recsys" / "model.py").write_text("x = 2\n")
    assert [ask(), ask()] == [4, 4]
    (package / "recsys" / "model.py").rename(package / "recsys" / "module.py")
    assert ask() == 5
