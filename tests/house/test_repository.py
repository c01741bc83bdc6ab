"""What is committed works on anybody's machine."""

import re
import subprocess
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

MACHINE_PATHS = re.compile(r"(?<![\w.~$}])/(?:work|root|tmp|opt|home/[a-z]\w*|Users/[a-z]\w*)/[\w.-]")
REGISTRY_HOSTS = re.compile(r"\bpypi\.org|pythonhosted\.org|artifactory|/simple/?['\"\s]")
THIS_FILE = "tests/house/test_repository.py"


@pytest.mark.parametrize("forbidden", [MACHINE_PATHS, REGISTRY_HOSTS], ids=["path of a machine", "host of a registry"])
def test_no_committed_file_names_a_machine(committed_texts: dict[str, str], forbidden: re.Pattern[str]):
    found = {
        name: match.group()
        for name, text in committed_texts.items()
        if name != THIS_FILE and (match := forbidden.search(text))
    }
    assert found == {}


def test_every_dependency_is_explained(root: Path):
    page = (root / "docs" / "dependencies.md").read_text(encoding="utf-8")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    names = {re.match(r"[\w-]+", requirement).group() for group in groups for requirement in group}  # type: ignore[union-attr]
    assert {name for name in names if name not in page} == set()


def test_entry_points_name_the_shipped_plugins(root: Path):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    offered = {
        value.removeprefix("guardrail_hooks.") for value in project["project"]["entry-points"]["guardrail"].values()
    }
    assert offered == {
        path.stem for path in (root / "hooks" / "guardrail_hooks").glob("*.py") if path.stem != "__init__"
    }


def test_rooms_keep_to_themselves(root: Path):
    finished = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=root, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stdout


@pytest.fixture(scope="module")
def environment(root: Path) -> Any:
    spec = spec_from_file_location("environment", root / ".ci" / "environment.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_uv_is_told_what_pip_was_told(environment: Any):
    said = "global.index-url='https://one.example/a'\nglobal.extra-index-url='\\nhttps://two.example\\nhttps://three.example'\n"
    assert environment.uv_settings(said + "global.find-links='a b'\nglobal.timeout='60'") == {
        "UV_DEFAULT_INDEX": "https://one.example/a",
        "UV_INDEX": "https://two.example https://three.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "a,b",
        "UV_HTTP_TIMEOUT": "60",
    }


def test_pips_environment_wins_over_its_files(environment: Any):
    said = ":env:.index-url='https://env.example'\nglobal.index-url='https://file.example'\ndownload.index-url='https://not.example'"
    assert environment.uv_settings(said) == {"UV_DEFAULT_INDEX": "https://env.example"}
