"""The package as a user gets it: a wheel, installed elsewhere, with every module and data file, importing lightly."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("agents", "envs", "offline", "scripts")

IMPORT_ALL = """
import importlib, json, pkgutil, sys
import bellmark
names = [module.name for module in pkgutil.walk_packages(bellmark.__path__, "bellmark.")]
for name in names:
    importlib.import_module(name)
print(json.dumps({"file": bellmark.__file__, "names": names, "agents": bellmark.list_agents()}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in (*FOLDERS, "pyproject.toml", "README.md", "LICENSE", "__init__.py"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", source / "out", source], check=True)
    return next((source / "out").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with nothing but the wheel's content."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", target, wheel], check=True)
    return target


def run(program: str, installed: Path) -> dict:
    """What `program` prints as JSON, with the installed wheel first on the path and the checkout out of sight."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(installed)!r})\n{program}"]
    result = subprocess.run(command, cwd=installed, check=True, capture_output=True, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def test_every_module_and_data_file_is_in_the_wheel(wheel):
    packed = {name.removeprefix("bellmark/") for name in zipfile.ZipFile(wheel).namelist()}
    for folder in FOLDERS:
        modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py")}
        assert modules <= packed, f"not in the wheel: {sorted(modules - packed)}"
    data = {path.relative_to(ROOT).as_posix() for path in (ROOT / "scripts" / "settings").rglob("*.toml")}
    assert data and data <= packed
    assert "offline/d4rl_scores.csv" in packed
    assert not [name for name in packed if name.startswith("tests/")]


def test_the_installed_wheel_imports_every_module_and_knows_every_agent(installed):
    found = run(IMPORT_ALL, installed)
    assert Path(found["file"]).parent == installed / "bellmark"
    assert {"ppo", "dqn", "td3", "sac", "iql", "td3_bc"} <= set(found["agents"])
    assert "bellmark.scripts.main" in found["names"]


def test_importing_bellmark_imports_nothing_heavy_but_torch(installed):
    program = "import bellmark, json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    loaded = set(run(program, installed))
    assert not loaded & {"tensorboard", "matplotlib", "h5py", "mujoco", "gymnasium", "tyro", "rich"}
