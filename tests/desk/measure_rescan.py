"""How long a rescan of many released outputs takes: `python tests/desk/measure_rescan.py [OUTPUTS]`."""

import io
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
from PIL import Image

from guardrail.carriers import OutputPrints
from guardrail.desk.making import build_folder_index
from guardrail.desk.rescanning import Rescan
from guardrail.guard import Guard
from guardrail.index import Recipe
from guardrail.memory.appending import append
from guardrail.memory.releases import _stored, prints_sha256
from guardrail.records import Release
from guardrail.settings import Settings

AT_ONCE = 500  # rows of the ledger in one transaction


def drawing(seed, side=192):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def prints(chance, embedder, width):
    file = io.BytesIO()
    drawing(int(chance.integers(1 << 30))).save(file, "JPEG", quality=85)
    copy = chance.normal(size=(1, width))
    copy /= np.linalg.norm(copy)
    return OutputPrints(chance.bytes(320), embedder, copy.astype(np.float16), "", file.getvalue())


def fill(memory, count, embedder, width):
    chance = np.random.default_rng(0)
    for start in range(0, count, AT_ONCE):
        made = [prints(chance, embedder, width) for _ in range(min(AT_ONCE, count - start))]
        releases = [
            Release(
                verdict_id=uuid4().hex,
                file="out.png",
                file_sha256="0" * 64,
                manifest_id=uuid4().hex,
                at=datetime.now(UTC),
            )
            for _ in made
        ]
        contents = [
            {"release": release.model_dump(mode="json"), "prints_sha256": prints_sha256(one)}
            for release, one in zip(releases, made, strict=True)
        ]
        with memory._database.writing() as (session, state):
            sequences = append(session, state, "release", contents)
            session.add_all(_stored(*both) for both in zip(sequences, made, strict=True))


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "works").mkdir()
        for seed in range(4):
            drawing(seed).save(home / "works" / f"{seed}.png")
        settings = Settings(home=home, device="cpu", index=str(home / "index"))
        build_folder_index(home / "works", home / "index", settings, Recipe())
        guard = Guard(settings=settings)
        spec = guard.fingerprint.copy.spec
        fill(guard.memory, count, f"{spec.name}@{spec.weights_sha256}", spec.dimensions)
        keys = [(work.bank, work.work_id) for work in guard.index.works]
        for some in (keys[:1], keys):
            started, cpu = time.perf_counter(), time.process_time()
            report = Rescan(guard, guard.memory, uuid4().hex)(some)
            spent = time.perf_counter() - started, time.process_time() - cpu
            print(
                f"{len(some)} works against {report.outputs} outputs: {spent[0]:.2f} s, {spent[1]:.2f} s of a core; "
                f"{len(report.near)} near"
            )


if __name__ == "__main__":
    main()
