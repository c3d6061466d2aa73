"""What is installed: the lock says the same as the constraints, and the audit reports without failing."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", re.MULTILINE)


def pinned(text: str) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in _PINNED.findall(text)}


def test_the_lock_is_the_constraints_with_hashes_and_without_torch() -> None:
    lock, constraints = ((ROOT / f).read_text("utf-8") for f in ("requirements.lock", "constraints.txt"))
    wanted = pinned(constraints)
    del wanted["torch"]
    assert pinned(lock) == wanted, "make requirements.lock again: its first lines say how"
    for block in re.split(r"\n(?=[A-Za-z0-9])", lock.split("\n", 3)[3]):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block
    assert "://" not in lock  # the index is the reader's own


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("report", "lines"),
    [
        ("", ["gave no answer"]),
        ("[]", ["gave no answer"]),
        ({"dependencies": [{"name": "a", "skip_reason": "unknown"}]}, ["knows none of 1 packages"]),
        ({"dependencies": [{"name": "a", "version": "1", "vulns": []}]}, ["no known vulnerability in 1 of 1"]),
        (
            {"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}]},
            ["1 known vulnerabilities", "a 1: X-1, mended in 2"],
        ),
    ],
)
def test_the_audit_says_what_it_found(audit: ModuleType, report: object, lines: list[str]) -> None:
    said = audit.summary(report if isinstance(report, str) else json.dumps(report))
    assert len(said) == len(lines)
    assert all(wanted in line for wanted, line in zip(lines, said, strict=True))


def test_an_audit_that_gets_no_answer_is_one_line(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    audit.main(0.01)
    assert "did not answer" in capsys.readouterr().out
