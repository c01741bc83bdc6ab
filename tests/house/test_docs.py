"""The documentation says what the code does."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from guardrail import hookspecs, records
from guardrail.records.review import ReasonCode, ReviewOutcome

FORBIDDEN_WORDS = {"score", "data", "info", "result", "process", "utils", "manager", "handle", "threshold"}
SHELL_OF_THE_READER = {"git", "cd", "pip", "uv", "python3"}
HOOKS = [name for name, member in vars(hookspecs).items() if hasattr(member, f"{hookspecs.PROJECT}_spec")]
RECORDS = [
    kind.__name__ for kind in vars(records).values() if isinstance(kind, type) and issubclass(kind, records.Record)
]


@pytest.fixture(scope="module")
def cog_helper(root: Path) -> Any:
    sys.path.insert(0, str(root / "docs"))
    try:
        import _cog
    finally:
        sys.path.remove(str(root / "docs"))
    return _cog


@pytest.fixture(scope="module")
def glossary(root: Path) -> str:
    return (root / "docs" / "glossary.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_has_a_section(root: Path, hook: str):
    page = (root / "docs" / "reference" / "hooks.md").read_text(encoding="utf-8")
    assert f"\n## {hook} " in page
    assert f"::: guardrail.hookspecs.{hook}\n" in page


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_has_a_test(root: Path, hook: str):
    tests = "".join(path.read_text(encoding="utf-8") for path in (root / "tests").rglob("test_*.py"))
    assert re.search(rf"def test_hook_{hook}\b", tests), f"write test_hook_{hook}"


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_has_a_shipped_plugin(cog_helper: Any, hook: str):
    assert cog_helper._shipped_plugins(hook), "no new hook without a plugin that needs it"


def test_documentation_knows_every_hook(cog_helper: Any):
    assert list(cog_helper.hook_names()) == HOOKS


def test_api_page_lists_every_reason_code_and_outcome(root: Path):
    page = (root / "docs" / "api.md").read_text(encoding="utf-8")
    table = re.search(r"What `reasons` may hold.*?\| --- .*?\n(.*?)<!-- \[\[\[end", page, re.DOTALL)
    assert table is not None
    assert re.findall(r"^\| `(\w+)` \|", table[1], re.MULTILINE) == list(get_args(ReasonCode))
    assert set(re.findall(r"^\| `(\w+)` \| the image ", page, re.MULTILINE)) == set(get_args(ReviewOutcome))


@pytest.mark.parametrize("name", RECORDS)
def test_record_is_in_the_glossary(glossary: str, name: str):
    assert f"`{name}`" in glossary


TERMS = [
    "similarity",
    "distance_bits",
    "bank",
    "evidence",
    "rule",
    "limit",
    "calibration",
    "snapshot",
    "hold",
    "view",
    "signal",
    "near-copy",
    "opt-out",
    "ledger",
    "generic bank",
    "nearest works",
]


@pytest.mark.parametrize("term", TERMS)
def test_term_is_in_the_glossary(glossary: str, term: str):
    assert re.search(rf"^{term}\n:   ", glossary, re.MULTILINE)


def test_glossary_has_each_term_once_and_no_forbidden_word(glossary: str):
    terms = [term.strip("`").lower() for term in re.findall(r"^(.+)\n:   ", glossary, re.MULTILINE)]
    assert len(terms) == len(set(terms))
    assert FORBIDDEN_WORDS & set(terms) == set()


def test_commands_of_the_readme_exist(root: Path, cog_helper: Any):
    readme = (root / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = set(cog_helper.cli_commands())
    fenced = [line for block in re.findall(r"```bash\n(.*?)```", readme, re.DOTALL) for line in block.splitlines()]
    asked = fenced + re.findall(r"^\| `(guardrail [^`]+)` \|", readme, re.MULTILINE)
    assert asked
    assert [line for line in asked if not _exists(line, targets, commands)] == []


def _exists(line: str, targets: set[str], commands: set[str]) -> bool:
    words = shlex.split(line, comments=True)
    if not words or words[0] in SHELL_OF_THE_READER:
        return True
    if words[0] == "make":
        return words[1] in targets
    if Path(words[0]).name != "guardrail":
        return False
    named = [word for word in words[1:] if re.fullmatch(r"[a-z]+", word)]
    return " ".join(["guardrail", *named[:1]]) in commands and (
        " ".join(["guardrail", *named[:2]]) in commands
        or not any(one.startswith(f"guardrail {named[0]} ") for one in commands)
    )


def test_every_page_is_in_the_navigation(root: Path):
    navigation = (root / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.relative_to(root / "docs").as_posix() for path in (root / "docs").rglob("*.md")]
    assert [page for page in pages if f": {page}\n" not in navigation] == []
