"""The shape of the house: who may import whom, and that `import data` finds ours wherever it is asked."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("data", "recsys", "nlp", "forecasting", "dashboard")
ALLOWED = {
    "data": {"data"},
    "recsys": {"data", "recsys"},
    "nlp": {"data", "nlp"},
    "forecasting": {"data", "forecasting"},
    "dashboard": set(PACKAGES),
}


def imported_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found & {*PACKAGES, "score", "tests", "benchmarks"}


@pytest.mark.parametrize("package", PACKAGES)
def test_import_rules(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    broken = {str(f.relative_to(ROOT)): extra for f in files if (extra := imported_packages(f) - ALLOWED[package])}
    assert not broken


def test_dashboard_and_score_use_public_names_only() -> None:
    for path in [*(ROOT / "dashboard").rglob("*.py"), ROOT / "score.py"]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
                private = [a.name for a in node.names if a.name.startswith("_")]
                assert not private or node.module.startswith("dashboard"), f"{path.name} imports {private}"


def test_no_module_of_the_dashboard_shadows_a_package() -> None:
    # Streamlit puts dashboard/ first on the path.
    names = {p.stem if p.is_file() else p.name for p in (ROOT / "dashboard").iterdir()}
    assert not names & {*PACKAGES, "score", "tests", "benchmarks"}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_found_from_a_folder_that_holds_a_plain_data(package: str, tmp_path: Path) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "notes.txt").write_text("not ours")
    code = f"import {package}; print({package}.__file__)"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert Path(result.stdout.strip()) == ROOT / package / "__init__.py", result.stderr


def test_the_first_paint_does_not_wait_for_torch() -> None:
    modules = "dashboard.prepare, recsys.pages, dashboard.posters, data.dataset, data.runs, data.jobs"
    code = f"import sys, {modules}; print(sorted({{'torch', 'transformers', 'pandera'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stderr


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    wanted = project["dependencies"] + [d for extra in project["optional-dependencies"].values() for d in extra]
    names = {d.split("[")[0].split(">")[0].split("=")[0].split("<")[0].strip().lower() for d in wanted}
    assert not names - pinned
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()
