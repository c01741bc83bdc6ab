"""What holds for every test: offline, nobody's own folders or settings, and the same examples every time."""

import os

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("house")
os.environ["HF_HUB_OFFLINE"] = "1"  # read by huggingface_hub on import


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh data folder for each test, and no setting from the shell that started it."""
    for name in [name for name in os.environ if name.startswith("GUARDRAIL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data-home")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need an accelerator are skipped where there is none."""
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
