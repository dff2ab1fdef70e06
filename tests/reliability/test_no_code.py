"""The package has no way to run what a file says: looked up in its syntax, file by file."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle", "runpy"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle", "torch.jit.load", "torch.hub.load"}
IMPORTS = {"importlib.import_module", "importlib.__import__"}
ALLOWED = {
    "agents/core/registry.py find_agents": "imports the files that lie in the package's own folders",
    "envs/__init__.py __getattr__": "imports a module of the package, by a table in that file",
    "offline/__init__.py __getattr__": "imports a module of the package, by a table in that file",
    "envs/making.py _register": "imports shimmy or gymnasium_robotics, by their names",
    "envs/minatar.py _load": "imports a game of the package minatar, by a table in that file",
    "agents/stable_baselines3_export.py _model": "imports sb3_contrib, by its name",
    "scripts/comparison/measured.py main": "imports one of two files of the package, named by `compare` itself",
    "scripts/doctor.py create": "imports the module that the user has named on the command line",
    "scripts/main.py command": "imports the file of a command, by a list in that file",
    "scripts/bench/run_sb3.py build": "imports one of two libraries that are compared, named in that folder",
    "scripts/resume.py allow": "imports the module that the user has named on the command line",
}
"""Where a module may be imported by a name that is computed, and why that name comes from no file."""


def findings(source: str, path: str = "") -> Iterator[str]:
    """What a file holds that could run code, as `path function: what`; names are followed through `import ... as`."""
    tree = ast.parse(source)
    known = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            for alias in node.names:
                full = f"{module}.{alias.name}" if module else alias.name
                known[alias.asname or alias.name.partition(".")[0]] = full if alias.asname or module else ""
    functions = {
        inner: node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }

    def full_name(node: ast.AST) -> str:
        if isinstance(node, ast.Attribute):
            return f"{full_name(node.value)}.{node.attr}"
        return known.get(node.id) or node.id if isinstance(node, ast.Name) else ""

    for node in ast.walk(tree):
        found = ""
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found = ", ".join(name for name in names if name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            name = full_name(node).removeprefix("builtins.")
            found = name if name in BUILTINS | CALLS | IMPORTS else ""
        elif isinstance(node, ast.Call):
            name, words = full_name(node.func), {word.arg: word.value for word in node.keywords}
            constants = {word: value.value for word, value in words.items() if isinstance(value, ast.Constant)}
            if name == "torch.load" and constants.get("weights_only") is not True:
                found = "torch.load without weights_only=True"
            elif name == "numpy.load" and (
                len(node.args) > 2 or ("allow_pickle" in words and constants.get("allow_pickle") is not False)
            ):
                found = "numpy.load with allow_pickle"
        if found:
            yield f"{path} {functions.get(node, '')}: {found}"


def package() -> list[Path]:
    """Every module that is installed."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = [ROOT.joinpath(*name.split(".")[1:]) for name in settings["packages"]]
    return [path for folder in folders for path in sorted(folder.glob("*.py"))]


def test_the_package_has_no_such_thing():
    files = package()
    assert len(files) > 50
    found = [item for path in files for item in findings(path.read_text(), str(path.relative_to(ROOT)))]
    assert set(found) == {f"{place}: importlib.import_module" for place in ALLOWED}


@pytest.mark.parametrize(
    "planted",
    [
        *(f"import {module}" for module in sorted(MODULES)),
        "import os, pickle as p",
        "from pickle import loads",
        "from cloudpickle.cloudpickle import dumps",
        "x = eval('1')",
        "f = exec",
        "import builtins\nbuiltins.eval('1')",
        "compile('1', '', 'eval')",
        "__import__('os')",
        "import torch\ntorch.load('x')",
        "import torch as t\nt.load('x', weights_only=False)",
        "from torch import load\nload('x', weights_only=flag)",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy\nnumpy.load('x', None, True)",
        "from numpy import load as read\nread('x', allow_pickle=flag)",
        "import yaml\nyaml.load('x')",
        "from yaml import unsafe_load\nunsafe_load('x')",
        "import importlib\nimportlib.import_module(name)",
        "from importlib import import_module as get\nget(name)",
    ],
)
def test_it_would_be_found(planted):
    lines = "\n".join(f"    {line}" for line in planted.splitlines())
    (found,) = {item.partition(":")[0] for item in findings(f"def inside():\n{lines}\n", "file.py")}
    assert found == "file.py inside"


def test_what_is_harmless_is_not_found():
    harmless = "import re, torch\nimport numpy as np\nre.compile('x')\nmodel.eval()\ntorch.compile(f)\nnp.load('x')\n"
    assert [*findings(harmless + "torch.load('x', weights_only=True)\n# pickle.load\n'eval(x)'\n")] == []
