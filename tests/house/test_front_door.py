"""What `import guardrail` gives, and what it costs."""

import subprocess
import sys

import pytest

import guardrail

HEAVY = {"torch", "numpy", "faiss", "diffusers", "PIL", "sqlalchemy", "c2pa", "open_clip", "rich", "typer"}


def _loaded_by(code: str) -> set[str]:
    printed = subprocess.check_output([sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"], text=True)
    return set(printed.split())


@pytest.mark.parametrize(
    "code",
    ["import guardrail", "import guardrail; dir(guardrail)", "from guardrail import Settings, Verdict, hookimpl"],
)
def test_import_loads_no_heavy_package(code: str):
    assert _loaded_by(code) & HEAVY == set()


def test_command_line_loads_no_heavy_package_before_a_command_runs():
    assert _loaded_by("import guardrail.desk.cli") & (HEAVY - {"rich", "typer"}) == set()


def test_guard_on_files_does_not_load_diffusers():
    assert _loaded_by("import guardrail.guard") & {"diffusers", "open_clip", "c2pa"} == set()


def test_the_desk_binds_its_port_before_it_loads_torch_or_scipy():
    assert _loaded_by("import guardrail.desk.web.app, guardrail.desk.desk_commands") & {"torch", "scipy"} == set()


@pytest.mark.parametrize("name", guardrail.__all__)
def test_every_public_name_is_there(name: str):
    assert getattr(guardrail, name) is not None


def test_dir_lists_the_public_names():
    assert dir(guardrail) == sorted(guardrail.__all__)


def test_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="no attribute 'gaurd'"):
        _ = guardrail.gaurd
