"""A small world: five drawn works in an index made with the fake embedder, and a guard on it."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from guardrail.act import make_development_keys
from guardrail.desk.making import build_folder_index
from guardrail.guard import Guard
from guardrail.index import Recipe
from guardrail.settings import Settings
from guardrail.testing import FakePlugin


def drawing(seed, side=96):
    """A picture with enough in it to hash: a smooth random field, the same for the same seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


TABLE = "file,work_id,title,creator,licence,disposition,bank\n" + "".join(
    f"{name}.png,{name},{name.title()},Åsa,by agreement,{disposition},{bank}\n"
    for name, disposition, bank in (
        ("fox", "protect", "animals"),
        ("owl", "credit", "animals"),
        ("sky", "ignore", "generic"),
        ("elk", "protect", "animals"),
    )
)
SEEDS = {"fox": 1, "owl": 2, "sky": 3, "elk": 4}


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Index and keys; read only."""
    home = tmp_path_factory.mktemp("world")
    works = home / "works"
    works.mkdir()
    for name, seed in SEEDS.items():
        drawing(seed).save(works / f"{name}.png")
    (home / "works.csv").write_text(TABLE, encoding="utf-8")
    settings = Settings(home=home, device="cpu")
    recipe = Recipe(embedder="fake")
    build_folder_index(works, home / "index", settings, recipe, home / "works.csv", extra_plugins=[FakePlugin()])
    make_development_keys(home / "keys")
    return SimpleNamespace(index=home / "index", keys=home / "keys", works=works)


@pytest.fixture
def make_guard(world, tmp_path):
    """Make a guard with a fresh memory; settings and plugins as given."""
    made = []

    def make(*plugins, **said):
        settings = Settings(
            **{"index": str(world.index), "home": tmp_path, "keys": world.keys, "device": "cpu", **said}
        )
        guard = Guard(settings=settings, plugins=[FakePlugin(), *plugins])
        made.append(guard)
        return guard

    yield make
    for guard in made:
        guard.memory.close()


@pytest.fixture
def guard(make_guard):
    return make_guard()


@pytest.fixture
def pictures():
    """Pictures by name: copies of the works, a near one, a new one, a flat one."""
    fox = np.asarray(drawing(SEEDS["fox"]), np.float64)
    other = np.asarray(drawing(9), np.float64)
    return {
        **{name: drawing(seed) for name, seed in SEEDS.items()},
        "near fox": Image.fromarray((0.6 * fox + 0.4 * other).round().astype(np.uint8)),
        "new": drawing(77),
        "flat": Image.new("RGB", (96, 96), (90, 90, 90)),
    }
