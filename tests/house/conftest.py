"""The source tree, as the tests of the house read it: as text and syntax, never by importing."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Module:
    """One Python file of the product."""

    path: Path
    tree: ast.Module

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _modules(*folders: str) -> list[Module]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [Module(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


FOLDERS_OF = {"module": ("guardrail", "hooks"), "own_module": ("guardrail",), "plugin_module": ("hooks",)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `module`, `own_module` or `plugin_module` once for each of them."""
    for fixture in FOLDERS_OF.keys() & set(metafunc.fixturenames):
        modules = _modules(*FOLDERS_OF[fixture])
        metafunc.parametrize(fixture, modules, ids=[module.name for module in modules])


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def committed_texts() -> dict[str, str]:
    """Every text file that is or would be committed, by its path."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.check_output(listing, cwd=ROOT, text=True, stderr=subprocess.DEVNULL).split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    texts = {}
    for name in filter(None, names):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if b"\0" not in content:
            texts[name] = content.decode("utf-8", errors="replace")
    return texts
