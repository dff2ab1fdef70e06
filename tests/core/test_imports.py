"""What imports what: nothing heavy before it is used, and dependencies point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import bellmark
import pytest

ROOT = Path(bellmark.__file__).parent
FILES = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path
    for folder in ("agents", "envs", "offline", "scripts")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
HEAVY = {"tensorboard", "matplotlib", "h5py", "mujoco", "gymnasium", "rich", "tyro"}
FAMILIES = ("agents.on_policy", "agents.value_based", "agents.actor_critic")
MAY_IMPORT = {
    "agents.core": ("agents.core",),
    "envs": ("envs", "agents.core"),
    **dict.fromkeys(FAMILIES, ("agents.core", *FAMILIES)),
    "offline": ("offline", "envs", "agents.core", *FAMILIES),
}
LATE = {"agents.core.loop": {"envs", "scripts.progress"}, "agents.core.hindsight": {"envs.goals"}}
"""Inside functions: `learn` makes an environment from its id, and shows a bar if asked to; goals are judged there."""


def imports(module):
    """(imported module, when) of the project's own, when in {"start", "late", "typing"}."""
    package = module.split(".")[:-1]
    found = []

    def visit(node, when):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            inner = [f"{target}.{alias.name}".strip(".") for alias in node.names]
            modules = [name for name in inner if name in FILES or f"{name}.__init__" in FILES] or [target]
            found.extend((name, when) for name in modules)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            when = "late"
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            when = "typing"
        for child in ast.iter_child_nodes(node):
            visit(child, when)

    visit(ast.parse(FILES[module].read_text()), "start")
    return found


def inside(module, packages):
    return any(module == package or module.startswith(package + ".") for package in packages)


@pytest.mark.parametrize(
    "code",
    [
        "import bellmark",
        "from bellmark.agents.core import agent, buffer, checkpoint, loop, rollouts",
        "from bellmark.agents.core.registry import find_agents; assert find_agents()",
        "import bellmark; assert 'ppo' in bellmark.list_agents()",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(code):
    code = f"import sys; {code}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_dependencies_point_one_way():
    assert "agents.core.buffer" in FILES and len(FILES) > 30
    wrong = []
    for module in FILES:
        layer = next((layer for layer in MAY_IMPORT if inside(module, [layer])), None)
        for target, when in imports(module) if layer else ():
            allowed = inside(target, MAY_IMPORT[layer])
            late = when == "late" and inside(target, LATE.get(module, ()))
            if not (allowed or late or when == "typing"):
                wrong.append(f"{module} -> {target}")
    assert wrong == []


def test_imports_inside_the_package_are_relative():
    for module, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] in ("bellmark", "agents", "envs") for name in names), module


def algorithms():
    """Modules that define an agent with a name."""
    for module, path in FILES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and any(keyword.arg == "name" for keyword in node.keywords):
                yield module


def inside_all(modules, packages):
    return all(inside(module, packages) for module in modules)


def test_an_algorithm_imports_the_core_and_at_most_one_parent():
    """In `offline` also what reads data, which is no algorithm."""
    found = set(algorithms())
    assert {"agents.on_policy.ppo", "agents.actor_critic.td3", "offline.iql", "offline.td3_bc"} <= found
    for module in found:
        others = {
            target for target, when in imports(module) if when != "typing" and not inside(target, ["agents.core"])
        }
        assert len(others & found) <= 1 and inside_all(others - found, ["offline"]), (module, others)


def test_no_file_is_a_drawer_or_two_ideas():
    for module, path in FILES.items():
        assert path.stem not in ("utils", "util", "common", "misc", "helpers"), module
    assert {m: n for m, p in FILES.items() if (n := len(p.read_text().splitlines())) > 250} == {}
