"""What a user installs: the packages of the product, and not the torch reference, which is an oracle for tests."""

import re
import tomllib


def test_the_wheel_has_no_vendor_and_needs_none(root):
    settings = tomllib.loads((root / "pyproject.toml").read_text())
    packages = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages == ["wmtp_jax", "converters", "configs"]
    assert (root / "vendor" / "meta_llama" / "model.py").is_file()
    files = [path for package in packages for path in (root / package).rglob("*.py")]
    assert files
    assert [path for path in files if re.search(r"^\s*(from|import) vendor\b", path.read_text(), re.MULTILINE)] == []
