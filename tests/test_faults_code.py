"""Nothing in our code loads what could be a program, or lets a shell read a string."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    [ROOT / "score.py", *(f for p in ("data", "recsys", "nlp", "forecasting", "dashboard", "benchmarks")
                          for f in (ROOT / p).rglob("*.py") if ".venv" not in f.parts)]
)  # fmt: skip
_PROGRAMS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
_NO_LOADER = {"UnpicklingError", "PicklingError", "PickleError"}
_YAML = {"load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all"}
_HUB = {"from_pretrained"}


def unsafe(source: str) -> Iterator[str]:
    """What in `source` could run a program that came with a file, in words."""
    tree = ast.parse(source)
    options = {  # names of dicts and functions whose value is spread into a call: safe where they are set to be
        key.value: value
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"{node.lineno}: imports {a.name}" for a in node.names if a.name.split(".")[0] in _PROGRAMS)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in _PROGRAMS:
            yield from (f"{node.lineno}: imports {a.name}" for a in node.names if a.name not in _NO_LOADER)
        trusted = options.get("trust_remote_code")
        if isinstance(node, ast.Dict) and trusted is not None and _constant(trusted) is not False:
            yield f"{node.lineno}: trust_remote_code"
        if not isinstance(node, ast.Call):
            continue
        name, owner = _names(node.func)
        given = {keyword.arg: _constant(keyword.value) for keyword in node.keywords}
        where = f"{node.lineno}: {owner}.{name}" if owner else f"{node.lineno}: {name}"
        if given.get("trust_remote_code", False) is not False:
            yield f"{where} with trust_remote_code"
        if (owner, name) in (("torch", "load"), ("pl", "load")) and given.get("weights_only") is not True:
            yield f"{where} without weights_only=True"
        if name == "load_from_checkpoint" and given.get("weights_only") is not True:
            yield f"{where} without weights_only=True"
        if name == "fit" and "ckpt_path" in given and "weights_only" not in given:
            yield f"{where} resumes without weights_only"
        if given.get("weights_only", True) is False:
            yield f"{where} with weights_only=False"
        if given.get("allow_pickle", False) is not False or name == "read_pickle":
            yield f"{where} reads a pickle"
        if owner == "yaml" and name in _YAML:
            yield f"{where} is not safe_load"
        if given.get("shell", False) is not False or (owner, name) in (("os", "system"), ("os", "popen")):
            yield f"{where} starts a shell"
        if not owner and name in ("eval", "exec"):
            yield f"{where} runs a string"
        is_model = name in _HUB and owner.startswith("AutoModel")
        if is_model and given.get("use_safetensors") is not True:
            yield f"{where} without use_safetensors=True"
        if name in _HUB and None in given and _constant(trusted) is not False and "trust_remote_code" not in given:
            yield f"{where} takes options that do not forbid remote code"


def _names(function: ast.expr) -> tuple[str, str]:
    if isinstance(function, ast.Attribute):
        return function.attr, ast.unparse(function.value)
    return (function.id, "") if isinstance(function, ast.Name) else ("", "")


def _constant(value: ast.expr | None) -> object:
    if isinstance(value, ast.IfExp):  # both ways
        values = {_constant(value.body), _constant(value.orelse)} - {None}
        return values.pop() if len(values) == 1 else value
    return value.value if isinstance(value, ast.Constant) else value


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_no_file_of_ours_does(file: Path) -> None:
    assert list(unsafe(file.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import torch; torch.load(p)",
        "import torch; torch.load(p, weights_only=False)",
        "Module.load_from_checkpoint(p)",
        "trainer.fit(m, ckpt_path=p)",
        "trainer.fit(m, ckpt_path=p, weights_only=False if p else None)",
        "import numpy as np; np.load(p, allow_pickle=True)",
        "import pandas as pd; pd.read_pickle(p)",
        "import yaml; yaml.load(s, Loader=yaml.Loader)",
        "import subprocess; subprocess.run('ls', shell=True)",
        "import os; os.system('ls')",
        "eval('1')",
        "AutoModel.from_pretrained(n)",
        "AutoModelForCausalLM.from_pretrained(n, use_safetensors=False)",
        "AutoTokenizer.from_pretrained(n, trust_remote_code=True)",
        "AutoTokenizer.from_pretrained(n, **options)",
        "options = {'trust_remote_code': True}",
    ],
)
def test_each_of_these_is_found(line: str) -> None:
    assert list(unsafe(line))
