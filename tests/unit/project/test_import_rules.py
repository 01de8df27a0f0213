"""Which package may import which: read from the import statements, also those inside functions."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SHARED = {"errors", "files", "jsonl", "progress", "cli", "tree"}
PURE = {"model", "losses", "weighting", "decoding"}

# Package of wmtp_jax -> the packages of wmtp_jax that it may import, besides itself and SHARED.
ALLOWED = {
    "parallel": set(),
    "model": {"parallel"},
    "losses": {"model", "parallel"},
    "weighting": {"model", "losses"},
    "decoding": {"model", "losses", "data"},
    "sandbox": set(),
    "data": set(),
    "microcode": {"data", "sandbox"},
    "objectives": {"data", "decoding", "losses", "model", "storage", "weighting"},
    "evaluation": {"data", "decoding", "losses", "model", "objectives", "sandbox", "storage", "weighting"},
    "report": set(),
    "storage": {"data", "evaluation", "microcode", "model", "sandbox"},
    "training": {
        "data",
        "decoding",
        "evaluation",
        "losses",
        "model",
        "objectives",
        "parallel",
        "report",
        "sandbox",
        "storage",
        "weighting",
    },
}


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports; relative imports are not used here."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, package
    return found


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def test_every_package_is_listed():
    packages = {path.parent.name for path in (ROOT / "wmtp_jax").glob("*/__init__.py")}
    assert packages == ALLOWED.keys()


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_what_lies_below_them(package):
    for path in files(f"wmtp_jax/{package}"):
        inside = {name.split(".")[1] for name in imports(path) if name.startswith("wmtp_jax.")}
        assert inside - {package} - SHARED <= ALLOWED[package], path


def test_shared_files_import_no_package():
    for name in SHARED:
        inside = {name.split(".")[1] for name in imports(ROOT / f"wmtp_jax/{name}.py") if name.startswith("wmtp_jax.")}
        assert inside <= SHARED, name


def test_converters_know_the_model_and_the_shared_files():
    for path in files("converters"):
        inside = {name.split(".")[1] for name in imports(path) if name.startswith("wmtp_jax.")}
        assert inside <= SHARED | {"model"}, path


def test_pure_packages_do_no_input_or_output():
    for package in PURE:
        for path in files(f"wmtp_jax/{package}"):
            assert not tops(path) & {"orbax", "mlflow", "grain", "absl", "os", "pathlib", "json"}, path


@pytest.mark.parametrize("library", ["orbax", "mlflow"])
def test_one_module_alone_imports_it(library):
    users = [path for package in ("wmtp_jax", "converters", "configs") for path in files(package)]
    assert len([path for path in users if library in tops(path)]) == 1


def test_commands_and_worker_processes_start_without_jax():
    modules = ["data", "evaluate", "generate", "microcode", "storage.__main__", "storage.datasets.build", "train"]
    names = ", ".join(f"wmtp_jax.{module}" for module in modules)
    heavy = ("grain", "jax", "matplotlib", "orbax", "pyarrow", "torch")
    program = f"import sys, {names}; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_the_wheel_has_no_vendor_and_none_of_its_packages_imports_vendor_or_torch():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages == ["wmtp_jax", "converters", "configs"]
    assert (ROOT / "vendor" / "meta_llama" / "model.py").is_file()
    for package in packages:
        for path in files(package):
            assert not tops(path) & {"vendor", "torch", "transformers", "tests", "benchmarks"}, path
