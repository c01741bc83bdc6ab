"""The Milvus backend against the contract of all writable indexes, on a real server, and beside the folder index."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from guardrail.carriers import Fingerprints, Look
from guardrail.desk.cli import app
from guardrail.errors import (
    IndexMismatch,
    IndexMissing,
    IndexUnreachable,
    IndexUnsupported,
    IndexUnwritable,
)
from guardrail.guard import Guard
from guardrail.index import FolderIndex
from guardrail.index.milvus import CopySource, MilvusPlace, copy_index, open_milvus
from guardrail.index.milvus.backend import MilvusIndex
from guardrail.index.milvus.cluster import Cluster
from guardrail.index.milvus.layout import roles_of
from guardrail.index.milvus.sets import begin_set, builds_of, read_set, switch_to
from guardrail.index.store.create import create_store
from guardrail.records import (
    Decision,
    Disposition,
    EmbedderSpec,
    IndexHeader,
    Limits,
    Normalisation,
    Sampling,
    Signal,
    Work,
    tiles_of,
)
from guardrail.settings import Settings
from guardrail.testing import FakeEmbedder, FakePlugin, WritableIndexContract, made_up_prints, made_up_rows

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(
        not (find_spec("milvus") and find_spec("pymilvus")),
        reason="milvus, which carries a server, and pymilvus are not installed: dependency group `servers`",
    ),
]
TOKEN = "root:Milvus"  # what a new Milvus server begins with
ETCD_PEER_PORT = 2380  # of the etcd inside the server, which takes no other
TICK_MS = 20  # how often writes become visible; Milvus' default is 200


STARTS_A_SERVER = """
import sys
from milvus import MilvusServer, MilvusServerConfig

config = MilvusServerConfig(data_dir=sys.argv[1])
config.set("authorization_enabled", True)
config.set("proxy.timeTickInterval", int(sys.argv[2]))
server = MilvusServer(config)
server.start()
print(server.listen_port, flush=True)
sys.stdin.read()  # until whoever started us closes it, or is gone
server.stop()
"""


class RunningServer:
    """A Milvus server of our own that wants a password, in a process that ends when this one does."""

    def __init__(self, folder):
        self.folder = folder
        command = [sys.executable, "-c", STARTS_A_SERVER, str(folder), str(TICK_MS)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def stop(self):
        self.process.communicate("", timeout=30)

    def url(self, name="works"):
        return f"milvus://127.0.0.1:{self.port}/default/{name}"


class Wire:
    """What lies between a client and the server: cut, nothing answers; mended, the same address answers again."""

    def __init__(self, server_port):
        self.server_port, self.port, self.open = server_port, 0, []
        self.mend()

    def mend(self):
        self.listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, args=(self.listener,))
        self.thread.start()

    def cut(self):
        for end in (self.listener, *self.open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        for end in (self.listener, *self.open):
            end.close()
        self.open.clear()

    def _accept(self, listener):
        carriers = []
        with contextlib.suppress(OSError):
            while True:
                client, server = listener.accept()[0], socket.create_connection(("127.0.0.1", self.server_port))
                self.open += [client, server]
                for ends in ((client, server), (server, client)):
                    carriers.append(threading.Thread(target=self._carry, args=ends))
                    carriers[-1].start()
        for carrier in carriers:
            carrier.join()

    @staticmethod
    def _carry(taken_from, given_to):
        with contextlib.suppress(OSError):
            while piece := taken_from.recv(65536):
                given_to.sendall(piece)
        for end in (taken_from, given_to):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def wire(server):
    wire = Wire(server.port)
    yield wire
    wire.cut()


def is_taken(port):
    with socket.socket() as asked:
        asked.settimeout(1)
        return asked.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if is_taken(ETCD_PEER_PORT):
        pytest.skip(f"port {ETCD_PEER_PORT} is taken: another Milvus or etcd runs here, and the server needs it")
    running = RunningServer(tmp_path_factory.mktemp("milvus"))
    yield running
    running.stop()
    shutil.rmtree(running.folder)  # it unpacked 450 MB of programs


@pytest.fixture(autouse=True)
def _token(monkeypatch):
    monkeypatch.setenv("GUARDRAIL_MILVUS_TOKEN", TOKEN)


def header_of(**said):
    spec = EmbedderSpec(name="made-up", weights_sha256="a" * 64, preprocessing="none", dimensions=16)
    fields = {
        "snapshot": "0" * 64,
        "works": 0,
        "banks": {},
        "embedders": {"copy": spec},
        "hashes": {"pdq": "1", "phash": "1"},
        "limits": Limits(),
        "built_at": datetime(2026, 11, 22, tzinfo=UTC),
        "unreadable": 0,
    }
    return IndexHeader.model_validate(fields | said)


def emptied(url, header=None, background=None):
    """The index at a URL without a work: collections take seconds to make, so they are made once and emptied."""
    cluster = Cluster(MilvusPlace.parse(url))
    try:
        described = read_set(cluster)
        for role in ("pictures", *roles_of(described.specification)):
            cluster.tell("delete", described.of[role], filter="id >= 0")
        cluster.tell("delete", described.of["works"], filter='key != ""')
    except IndexMissing:
        switch_to(cluster, begin_set(cluster, header or header_of(), background, "FLAT"))
    return open_milvus(url)


class TestMilvusIndex(WritableIndexContract):
    @pytest.fixture(autouse=True)
    def _somewhere(self, server):
        self.url = server.url()

    def empty(self):
        return emptied(self.url)

    def again(self, index):
        return open_milvus(self.url)


# --- beside the folder index ----------------------------------------------------------------------------------------


def unit(chance, *shape):
    vectors = chance.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def everything(count, seed=0):
    """Fingerprints with looks and CLIP vectors, and the rows of works that they are of, tiles and all."""
    chance = np.random.default_rng(seed)
    prints = made_up_prints(count, seed)
    looks = (Look("rotate_90", None), *(Look("identity", region) for region in tiles_of(5)))
    prints = replace(prints, clip=unit(chance, count, 24), looks=looks, copy_looks=unit(chance, count, len(looks), 16))
    dispositions = list(Disposition)
    works = [
        Work(work_id=f"work-{at}", bank=f"bänk {at % 3}", title=f'"t" \\ {at}', disposition=dispositions[at % 3])
        for at in range(count)
    ]
    rows = made_up_rows(prints, works)
    arrays = {"clip": prints.clip.astype(np.float16), "tiles": unit(chance, count, 4, 16).astype(np.float16)}
    return prints, replace(rows, arrays={**rows.arrays, **arrays})


def told(neighbours):
    """Neighbours without the numbers of their rows, which each backend counts as it likes."""
    return [sorted(near.model_dump_json(exclude={"row"}) for near in some) for some in neighbours]


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65])
def test_neighbours_are_those_of_the_folder_index(server, tmp_path, count):
    """To the last bit: tiles, turned views, normalised similarities, CLIP, hashes, dispositions, regions."""
    clip = EmbedderSpec(name="made-up-clip", weights_sha256="b" * 64, preprocessing="none", dimensions=24)
    copy = header_of().embedders["copy"]
    background = unit(np.random.default_rng(5), 50, 16)
    header = header_of(
        embedders={"copy": copy, "clip": clip},
        sampling=Sampling(tiles=5, query_tiles=5, query_views=4),
        normalisation=Normalisation(background=50, nearest=3),
    )
    rows = everything(count)[1]
    create_store(tmp_path / "index", header, [rows] if count else [], background=background)
    index = emptied(server.url("everything"), header, background)
    if count:
        index.put(rows)
    folder, queries = FolderIndex(tmp_path / "index").pinned(), everything(4, seed=1)[0]
    for asked in (queries, everything(2)[0]) if count else (queries,):
        for limit in (1, 5):
            ours = index.search(asked, limit)
            assert told(ours) == told(folder.search(asked, limit)), limit
            assert bool(count) == any(ours)


def test_similarity_is_measured_again_from_what_is_stored(server):
    """The limit, one step of float32 below and above it: no rounding of the server's moves a verdict."""
    index, chance = emptied(server.url()), np.random.default_rng(3)
    prints = made_up_prints(9, seed=3)
    index.put(made_up_rows(prints, [Work(work_id=f"work-{at}") for at in range(9)]))
    queries = replace(made_up_prints(9, seed=4), copy=unit(chance, 9, 16))
    stored = prints.copy.astype(np.float16).astype(np.float64)
    for query, found in zip(queries.copy, index.search(queries, 9), strict=True):
        exact = np.sort((stored @ query.astype(np.float64)).astype(np.float32).clip(-1, 1))[::-1]
        assert [near.similarity for near in found if near.signal is Signal.COPY] == exact.tolist()


# --- writers that meet, stop, or are cut off ----------------------------------------------------------------------


def failing(monkeypatch, index, collection, method="upsert"):
    """Let every request of a kind to one collection fail, as a full disk or a lost proxy would."""
    tell = index._cluster.tell

    def told(asked, *args, **said):
        if asked == method and args[0] == collection:
            raise IndexUnwritable(str(index._cluster.place), "no room left")
        return tell(asked, *args, **said)

    monkeypatch.setattr(index._cluster, "tell", told)


def test_put_that_fails_on_its_way_changes_nothing_and_can_be_repeated(server, monkeypatch):
    index, rows = emptied(server.url()), made_up_rows(made_up_prints(2), [Work(work_id="a"), Work(work_id="b")])
    index.put(made_up_rows(made_up_prints(1), [Work(work_id="a", title="former")]))
    before = index.search(made_up_prints(2), 5)
    for role in ("copy", "pictures", "works"):
        with monkeypatch.context() as broken:
            failing(broken, index, index._described.of[role])
            with pytest.raises(IndexUnwritable, match="no room left"):
                index.put(rows)
        assert index.search(made_up_prints(2), 5) == before, role
        assert open_milvus(server.url()).search(made_up_prints(2), 5) == before, role
    change = index.put(rows)
    assert (change.added, change.replaced, change.works) == (1, 1, 2)


def test_rows_that_belong_to_no_work_never_crowd_out_one_that_does(server, monkeypatch):
    """A writer that was killed leaves rows behind, all nearer than the work that counts: it is found all the same."""
    index, prints = emptied(server.url()), made_up_prints(1)
    index.put(made_up_rows(made_up_prints(1, seed=9), [Work(work_id="fox")]))
    many = made_up_prints(60)
    many = Fingerprints(
        **{name: getattr(many, name) for name in ("failures", "file_sha256", "pixels_sha256", "pdq_quality")},
        pdq=prints.pdq.repeat(60, 0),
        phash=prints.phash.repeat(60, 0),
        copy=prints.copy.repeat(60, 0),
    )
    with monkeypatch.context() as broken:
        failing(broken, index, index._described.of["works"])
        broken.setattr(index, "_purge_quietly", lambda here, rows: None)  # killed: nobody tidies up
        with pytest.raises(IndexUnwritable):
            index.put(made_up_rows(many, [Work(work_id=f"ghost-{at}") for at in range(60)]))
    (found,) = index.search(prints, 1)
    assert {(near.signal, near.work.work_id) for near in found} == {
        (signal, "fox") for signal in (Signal.PDQ, Signal.PHASH, Signal.COPY)
    }


def test_work_that_is_replaced_while_it_is_searched_is_never_missed(server, monkeypatch):
    index, prints = emptied(server.url()), made_up_prints(1)
    index.put(made_up_rows(prints, [Work(work_id="fox")]))
    other, current = open_milvus(server.url()), index._current

    def replaced_meanwhile(numbers):
        monkeypatch.setattr(index, "_current", current)
        other.put(made_up_rows(prints, [Work(work_id="fox", title="renamed")]))
        return current(numbers)

    monkeypatch.setattr(index, "_current", replaced_meanwhile)
    (found,) = index.search(prints, 1)
    assert {near.signal for near in found if near.work.title == "renamed"} >= {Signal.PDQ, Signal.PHASH, Signal.COPY}


def test_readers_see_a_work_whole_while_writers_meet(server):
    """One writer replaces the work that is looked for, two others withdraw and put another: every answer is whole."""
    index, stop, faults = emptied(server.url()), threading.Event(), []
    index.put(made_up_rows(made_up_prints(20, seed=1), [Work(work_id=f"work-{at}") for at in range(20)]))
    index.put(made_up_rows(made_up_prints(1), [Work(work_id="fox")]))

    def write(name):
        try:
            mine = open_milvus(server.url())
            for turn in range(1000):
                if stop.wait(0.1):
                    return
                if name == "fox":
                    mine.put(made_up_rows(made_up_prints(1), [Work(work_id="fox", title=str(turn))]))
                else:
                    mine.withdraw([("default", "elk")])
                    mine.put(made_up_rows(made_up_prints(1, seed=turn + 2), [Work(work_id="elk")]))
        except Exception as error:  # noqa: BLE001 - told below
            faults.append(error)

    writers = [threading.Thread(target=write, args=(name,)) for name in ("fox", "elk", "elk")]
    for writer in writers:
        writer.start()
    try:
        for _ in range(10):
            found = [near for near in index.pinned().search(made_up_prints(1), 1)[0] if near.work.work_id == "fox"]
            near = [one for one in found if one.signal not in (Signal.BYTES, Signal.PIXELS)]
            assert [one.signal for one in near] == [Signal.COPY, Signal.PDQ, Signal.PHASH]
            assert len({one.row for one in near}) == 1
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert faults == []
    assert open_milvus(server.url()).header.works in (21, 22), "the elk that was withdrawn last may be gone"


# --- rebuilds, structures, and servers that cannot --------------------------------------------------------------


def test_rebuild_is_switched_to_in_one_step_and_the_former_set_answers_until_then(server):
    url, old, new = server.url("rebuilt"), made_up_prints(2), made_up_prints(2, seed=8)

    def source(prints, snapshot):
        rows = made_up_rows(prints, [Work(work_id="a"), Work(work_id="b")])
        header = header_of(snapshot=snapshot * 64, works=2)
        return CopySource(header, None, [replace_rows(rows, at) for at in range(2)])

    copied = copy_index(source(old, "1"), url)
    assert (copied.added, copied.replaced, copied.unchanged) == (2, 0, 0)
    reader = open_milvus(url)
    again = copy_index(source(old, "1"), url)
    assert (again.added, again.unchanged, again.build) == (0, 2, copied.build)
    fresh = copy_index(source(new, "2"), url, rebuild=True)
    assert fresh.build != copied.build
    assert [near.work.work_id for near in reader.search(old, 1)[1]] == ["b"] * 5, "who has it open goes on"
    assert [near.work.work_id for near in reader.pinned().search(new, 1)[1]] == ["b"] * 5
    assert {near.signal for near in reader.pinned().search(old, 1)[1]}.isdisjoint({Signal.BYTES, Signal.PIXELS})
    last = copy_index(source(old, "3"), url, structure="HNSW", rebuild=True)
    assert last.discarded == (copied.build,), "the set that counted last is kept, older ones are not"
    assert builds_of(Cluster(MilvusPlace.parse(url))) == tuple(sorted((fresh.build, last.build)))
    assert [near.work.work_id for near in open_milvus(url).search(old, 1)[1]] == ["b"] * 5, "by HNSW too"


def replace_rows(rows, at):
    """One of the rows."""
    one = slice(at, at + 1)
    return type(rows)(
        rows.works[one],
        rows.files[one],
        rows.file_sha256[one],
        rows.pixels_sha256[one],
        {name: array[one] for name, array in rows.arrays.items()},
        rows.previews[one],
    )


def test_copy_of_another_specification_asks_for_a_rebuild(server):
    emptied(server.url())
    other = EmbedderSpec(name="other", weights_sha256="c" * 64, preprocessing="none", dimensions=16)
    with pytest.raises(IndexMismatch, match="--rebuild"):
        copy_index(CopySource(header_of(embedders={"copy": other}), None, []), server.url())


def test_structure_that_the_server_cannot_build_is_named(server):
    with pytest.raises(IndexUnsupported, match="GPU_CAGRA"):
        begin_set(Cluster(MilvusPlace.parse(server.url("gpu"))), header_of(), None, "GPU_CAGRA")
    with pytest.raises(IndexMissing, match="guardrail index copy"):
        open_milvus(server.url("gpu"))


def test_wrong_password_is_turned_away_without_repeating_it(server, monkeypatch):
    monkeypatch.setenv("GUARDRAIL_MILVUS_TOKEN", "root:not-the-password")
    monkeypatch.setenv("GUARDRAIL_MILVUS_PATIENCE_S", "1")
    with pytest.raises(IndexUnreachable) as caught:
        open_milvus(server.url())
    assert "not-the-password" not in str(caught.value)


def test_database_that_is_not_there_is_missing(server):
    with pytest.raises(IndexMissing, match="nowhere"):
        open_milvus(f"milvus://127.0.0.1:{server.port}/nowhere")


def test_what_is_larger_than_a_field_is_refused_before_anything_is_written(server):
    index = emptied(server.url())
    rows = made_up_rows(made_up_prints(1), [Work(work_id="a", title="t" * 70_000)])
    with pytest.raises(IndexUnwritable, match="65535"):
        index.put(rows)
    with pytest.raises(IndexUnwritable, match="preview"):
        index.put(replace(made_up_rows(made_up_prints(1), [Work(work_id="a")]), previews=(bytes(50_000),)))
    assert index.pinned().header.snapshot == index.header.snapshot


# --- the whole product -------------------------------------------------------------------------------------------


def drawing(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder index of four drawings, made with the fake embedder."""
    from guardrail.desk.making import build_folder_index
    from guardrail.index import Recipe

    home = tmp_path_factory.mktemp("works")
    (home / "works").mkdir()
    names = {"fox": "protect", "owl": "credit", "sky": "ignore", "elk": "protect"}
    table = "file,work_id,title,disposition\n" + "".join(f"{n}.png,{n},{n.title()},{d}\n" for n, d in names.items())
    (home / "works.csv").write_text(table, encoding="utf-8")
    for seed, name in enumerate(names):
        drawing(seed).save(home / "works" / f"{name}.png")
    settings = Settings(home=home, device="cpu")
    recipe = Recipe(embedder="fake")
    build_folder_index(
        home / "works", home / "index", settings, recipe, home / "works.csv", extra_plugins=[FakePlugin()]
    )
    return home / "index"


def verdicts(guard, pictures):
    said = []
    for verdict in guard.check(pictures).verdicts:
        fields = {"verdict_id", "at", "timings", "index_snapshot"}
        text = json.loads(verdict.model_dump_json(exclude=fields))
        said.append(json.dumps(without_rows(text), sort_keys=True))
    return said


def without_rows(said):
    if isinstance(said, dict):
        return {name: without_rows(value) for name, value in said.items() if name != "row"}
    return [without_rows(one) for one in said] if isinstance(said, list) else said


def answered_again(ask):
    """The answer once the driver has connected again: it waits longer from try to try, and fails quickly meanwhile."""
    for _ in range(60):
        with contextlib.suppress(IndexUnreachable):
            return ask()
        time.sleep(0.25)
    return ask()


def test_guard_judges_alike_and_fails_closed_when_nothing_answers(server, wire, folder, tmp_path, monkeypatch):
    """Copied by the command line; while nothing answers nothing is accepted, and a server that is back is found."""
    url = f"milvus://127.0.0.1:{wire.port}/default/guarded"
    for counts in ({"added": 4, "unchanged": 0}, {"added": 0, "unchanged": 4}):
        done = CliRunner().invoke(app, ["index", "copy", str(folder), url, "--json"], catch_exceptions=False)
        said = json.loads(done.stdout)
        assert done.exit_code == 0
        assert {name: said[name] for name in counts} == counts
    assert TOKEN.partition(":")[2] not in done.output.replace("Milvus server", "").replace("milvus", "")

    def guard_on(index, home):
        return Guard(settings=Settings(index=index, home=home, device="cpu"), plugins=[FakePlugin(FakeEmbedder())])

    pictures = [drawing(seed) for seed in (0, 1, 2, 3, 77)]
    ours, theirs = guard_on(url, tmp_path / "a"), guard_on(str(folder), tmp_path / "b")
    assert verdicts(ours, pictures) == verdicts(theirs, pictures)
    assert ours.check(pictures).verdicts[0].decision is Decision.BLOCK

    monkeypatch.setattr(ours.index._cluster, "_patience_s", 2.0)
    wire.cut()
    with pytest.raises(IndexUnreachable, match="start it"):
        ours.check(pictures)
    assert ours.last_report is None
    wire.mend()
    assert answered_again(lambda: verdicts(ours, pictures)) == verdicts(theirs, pictures)
    ours.memory.close()
    theirs.memory.close()


def test_index_of_a_guard_is_a_milvus_index(server, folder):
    copy_index(CopySource(FolderIndex(folder).header, None, []), server.url("guarded"))
    from guardrail.plugins import build_plugins, open_index

    assert isinstance(open_index(build_plugins(), server.url("guarded")), MilvusIndex)
