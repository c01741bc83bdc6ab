"""Fingerprint on a Ray cluster: CPUs decode, a pool of actors embeds, and parquet shards go to any fsspec URL.

Ray Data carries the rows; what counts once and what is listed is settled before and after, by the driver.
"""

import hashlib
import itertools
import json
import pickle
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec
import pyarrow as pa

from guardrail import intake
from guardrail.carriers import SourcePicture
from guardrail.desk.bulk_pool import packed
from guardrail.desk.making import make_builder
from guardrail.errors import IndexDamaged, IndexMismatch, IndexUnwritable
from guardrail.extras import need
from guardrail.index import Builder, Recipe, ShardList, Taken, shard_rows, take, write_shard_list
from guardrail.index.done import Done, Met
from guardrail.index.shard_list import LIST
from guardrail.index.shards import read_columns, shard_bytes, shard_table, specification_of
from guardrail.protocols import Source
from guardrail.settings import Settings

__all__ = ["Cluster", "fingerprint_on_ray"]

_READ_TOGETHER = 32  # pictures, one task
_EMBED_TOGETHER = 64  # pictures, one call of an actor
_SHARD_ROWS = 2048
_LISTED_TOGETHER = 32_768  # pictures handed to the cluster at once: the driver holds their names, not the pictures
_LOCAL = "local"
_DIGEST_SIGNS = 32  # hexadecimal, of a shard's name
_SHARD_NAME = re.compile(r"\d{6}-[0-9a-f]{32}\.parquet")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where to run, and how much of it to take.

    Attributes:
        address: `auto` for the cluster this machine is in, `local` for this machine alone, `ray://HOST:10001`.
        actors: how many embed; 0 takes one for each GPU, or half of the CPUs where there is none.
        runtime: of `ray.init`: what nodes must be given that have not all that is needed.
    """

    address: str
    actors: int = 0
    runtime: Mapping[str, Any] | None = None


def fingerprint_on_ray(
    source: Source,
    url: str,
    settings: Settings,
    recipe: Recipe,
    cluster: Cluster,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    extra_plugins: Iterable[object] = (),
) -> ShardList:
    """Fingerprint a source on a cluster.

    What a run that ended early has put at the URL is taken over, so the same call goes on; a picture that changed is
    fingerprinted again, and one that could not be read is tried again.

    Args:
        source: what every node can reach under the same names.
        url: a folder or fsspec URL for the shards, which every node can write to.
        settings: device, batch, largest picture.
        recipe: what the index will be made with.
        cluster: where.
        progress: called with how many are done, and about how many there are.
        extra_plugins: objects with hook implementations; they are sent to the nodes.

    Returns:
        The list of shards; it lies at the URL too.

    Raises:
        ExtraMissing: Ray is not installed.
        IndexDamaged: other things lie at the URL, or fingerprints of another specification.
    """
    ray = need("ray", extra="ray", purpose="fingerprint on a cluster")
    need("ray.data", extra="ray", purpose="fingerprint on a cluster")
    url = url.rstrip("/") if "://" in url else str(Path(url).resolve())
    made = partial(make_builder, settings, recipe, extra_plugins=tuple(extra_plugins))
    job = _Job(url, made().specification, made, cluster, settings.largest_image_px)
    started = not ray.is_initialized()
    if started:
        alone = {"include_dashboard": False} if cluster.address == _LOCAL else {}
        runtime = dict(cluster.runtime or {})
        ray.init(address=cluster.address, runtime_env=runtime, log_to_driver=False, **alone)
    try:
        with TemporaryDirectory() as folder, Done(Path(folder) / "done.db") as done:
            return _Run(ray, job, source, progress, done).all()
    except ray.exceptions.RayError as error:
        raise IndexUnwritable(url, f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}") from error
    finally:
        if started:
            ray.shutdown()


@dataclass(frozen=True, slots=True)
class _Job:
    """What all parts of a run share."""

    url: str
    specification: Mapping[str, Any]
    made: Callable[[], Builder]
    cluster: Cluster
    largest_px: int


class _Run:
    """One pass over a source, as the driver sees it."""

    def __init__(self, ray: Any, job: _Job, source: Source, progress: Callable[[int, int], None], done: Done) -> None:
        self.ray, self.job, self.source, self.progress, self.done = ray, job, source, progress, done
        self.faults: list[tuple[str, str]] = []
        self.finished = 0
        self.estimate = source.estimate()
        self.noted: list[str] = []

    def all(self) -> ShardList:
        """Fingerprint what is new, some ten thousand pictures at a time, and write the list."""
        self._note(self._found(), wanted=False)
        number = max((int(name.partition("-")[0]) for name in self.noted), default=0) + 1
        some: list[SourcePicture] = []
        for picture in self._new():
            some.append(picture)
            if len(some) == _LISTED_TOGETHER:
                self._fingerprint(some, number)
                some = []
        if some:
            self._fingerprint(some, number)
        return self._list()

    def _names(self) -> list[str]:
        files, path = fsspec.core.url_to_fs(self.job.url)
        return sorted(str(name).rpartition("/")[2] for name in files.ls(path, detail=False, refresh=True))

    def _found(self) -> list[str]:
        """The shards at the URL; a list of an earlier run holds no longer."""
        files, path = fsspec.core.url_to_fs(self.job.url)
        files.makedirs(path, exist_ok=True)
        names = self._names()
        shards = [name for name in names if _SHARD_NAME.fullmatch(name)]
        foreign = [name for name in names if name not in shards and name != LIST and not name.endswith(".tmp")]
        if foreign:
            raise IndexDamaged(self.job.url, f"other things ({foreign[0]!r})", "a place for fingerprints alone")
        expected = json.loads(json.dumps(self.job.specification))
        for name in shards:
            if specification_of(f"{self.job.url}/{name}") != expected:
                found = "fingerprints of another specification"
                raise IndexDamaged(f"{self.job.url}/{name}", found, "those of this recipe, or another URL")
        for name in names:
            if name == LIST or name.endswith(".tmp"):
                files.rm_file(f"{path}/{name}")
        return shards

    def _note(self, names: Iterable[str], *, wanted: bool) -> None:
        for name in names:
            for columns in read_columns(f"{self.job.url}/{name}", ("file", "stamp")):
                self.done.put(len(self.noted), columns["file"], columns["stamp"], wanted=wanted)
            self.noted.append(name)

    def _new(self) -> Iterator[SourcePicture]:
        for picture in self.source:
            try:
                picture.name.encode()
            except UnicodeEncodeError:
                self.faults.append((picture.name.encode("utf-8", "backslashreplace").decode(), "its name is not UTF-8"))
                continue
            match self.done.meet(picture.name, picture.stamp):
                case Met.NEW:
                    yield picture
                case Met.DONE:
                    self._say(1)
                case Met.AGAIN:
                    self.faults.append((picture.name, "another picture of this name comes before it"))

    def _say(self, more: int) -> None:
        self.finished += more
        self.progress(self.finished, max(self.estimate, self.finished))

    def _fingerprint(self, pictures: list[SourcePicture], number: int) -> None:
        """One pipeline: read (CPU tasks), embed (actors), write (tasks)."""
        data = self.ray.data
        data.DataContext.get_current().enable_progress_bars = False
        rows = [{"picture": pickle.dumps(picture)} for picture in pictures]
        blocks = -(-len(rows) // _READ_TOGETHER)
        actors, taken = _actors(self.ray.cluster_resources(), self.job.cluster.actors)
        written = (
            data.from_items(rows, override_num_blocks=blocks)
            .map_batches(
                _read,
                batch_size=_READ_TOGETHER,
                compute=data.TaskPoolStrategy(),
                fn_kwargs={"source": self.source, "largest_px": self.job.largest_px},
            )
            .map_batches(
                _Embedding,
                batch_size=_EMBED_TOGETHER,
                compute=data.ActorPoolStrategy(size=actors),
                fn_constructor_args=(self.job.made, dict(self.job.specification)),
                **taken,
            )
            .map_batches(
                _write,
                batch_size=_SHARD_ROWS // _EMBED_TOGETHER,
                compute=data.TaskPoolStrategy(),
                fn_kwargs={"url": self.job.url, "number": number},
            )
        )
        for row in written.iter_rows():
            self._say(int(row["rows"]))

    def _list(self) -> ShardList:
        """Note what the cluster wrote, and write the list, once every picture that was listed has a row.

        Raises:
            IndexDamaged: one has none.
        """
        known = set(self.noted)
        self._note([name for name in self._names() if name not in known], wanted=True)
        missing = list(self.done.nowhere())
        if missing:
            found = f"no fingerprints of {len(missing)} pictures ({missing[0]!r})"
            raise IndexDamaged(self.job.url, found, "those of every picture; run the same command again")
        files, path = fsspec.core.url_to_fs(self.job.url)
        shards = ShardList(
            location=self.job.url,
            specification=self.job.specification,
            sizes={name: int(files.size(f"{path}/{name}")) for name in self.noted},
            pictures=self.done.count(),
            faults=tuple(self.faults),
            left_out=self.source.left_out,
            gone=tuple(self.done.unlisted()),
        )
        write_shard_list(shards)
        return shards


def _actors(resources: Mapping[str, float], asked: int) -> tuple[int, dict[str, Any]]:
    """How many actors embed, and what each takes.

    They take no CPU of those that Ray hands out: a pool that had them all would wait for ever for somebody to read. It
    also keeps Ray from putting both stages into one.
    """
    processors, devices = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
    if devices:
        return asked or devices, {"num_gpus": 1, "num_cpus": 0}
    return asked or max(1, processors // 2), {"num_cpus": 0}


def _read(batch: Mapping[str, Any], source: Source, largest_px: int) -> Iterator[dict[str, Any]]:
    """Read pictures, one row each: a task."""
    read = partial(intake.read_place, largest_px=largest_px)
    for whole in batch["picture"]:
        picture: SourcePicture = pickle.loads(whole)  # noqa: S301 - from our own driver
        taken = take(read, source.open(picture))
        kept = SourcePicture(picture.name, picture.stamp, None, picture.facts)
        yield {"picture": [packed((kept, taken))]}


class _Embedding:
    """Fingerprints pictures: an actor, with the embedder on its device."""

    def __init__(self, made: Callable[[], Builder], specification: Mapping[str, Any]) -> None:
        self.builder, self.specification = made(), specification
        if self.builder.specification != specification:
            raise IndexMismatch("this node", str(self.builder.specification), str(specification))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """One row for all: a table, as bytes that Ray leaves alone."""
        read: list[tuple[SourcePicture, Taken]] = [pickle.loads(whole) for whole in batch["picture"]]  # noqa: S301
        rows = shard_rows([picture for picture, _ in read], [taken for _, taken in read], self.builder.fingerprint)
        sink = pa.BufferOutputStream()
        table = shard_table(rows, self.specification)
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return {"table": [sink.getvalue().to_pybytes()]}


def _write(batch: Mapping[str, Any], url: str, number: int) -> dict[str, Any]:
    """Write a shard: a task. Its name is made of what is in it, so that a task that is run again writes it again."""
    table = pa.concat_tables([pa.ipc.open_stream(whole).read_all() for whole in batch["table"]])
    names = "\0".join(itertools.chain(table.column("file").to_pylist(), table.column("stamp").to_pylist()))
    digest = hashlib.sha256(names.encode()).hexdigest()[:_DIGEST_SIGNS]
    files, path = fsspec.core.url_to_fs(f"{url}/{number:06d}-{digest}.parquet")
    unfinished = f"{path}.{uuid.uuid4().hex}.tmp"
    files.pipe_file(unfinished, shard_bytes(table))
    files.mv(unfinished, path)
    return {"rows": [table.num_rows]}
