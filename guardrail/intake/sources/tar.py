"""Webdataset shards as a source: pictures in tar files, and what lies beside them under the same key."""

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from guardrail.carriers import SourcePicture
from guardrail.intake.files import LARGEST_FILE_BYTES
from guardrail.intake.sources.folder import named_like_image
from guardrail.intake.sources.places import Content, Place, Unread
from guardrail.intake.sources.shards import Shard, plain_facts

__all__ = ["TarSource"]

_LARGEST_SIDE_FILE_BYTES = 65_536
_BLOCK_BYTES = 512  # tar's own
_REST_AT_ONCE_BYTES = 2**20
_NO_FILE = -1  # where a link or a device starts


class _Member(NamedTuple):
    name: str
    start: int
    size: int

    @property
    def key(self) -> str:
        """Webdataset's: all up to the first dot of the file's name."""
        folder, _, file = self.name.rpartition("/")
        return f"{folder}/{file.partition('.')[0]}"


class _Position(NamedTuple):
    shard: int
    start: int
    size: int


class TarSource:
    """Pictures in tar files, named `shard.tar/member.jpg`.

    A `.json` or `.txt` of the same key (all up to the first dot), next to the picture, tells title, creator and so on.

    Args:
        shards: the files; compressed ones cannot be read at any place and are listed as unreadable.
        named: by field of `Work`, the field of the `.json` that says it.
    """

    def __init__(self, shards: Sequence[Shard], named: Mapping[str, str] | None = None) -> None:
        self.shards = tuple(shards)
        self.named = dict(named or {})
        self.left_out = 0
        self._opened: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    @property
    def location(self) -> str:
        """See `Source.location`."""
        return json.dumps([[shard.path for shard in self.shards], self.named], sort_keys=True)

    def __iter__(self) -> Iterator[SourcePicture]:
        """See `Source`: shard by shard, as the members lie there."""
        self.left_out = 0
        for number in range(len(self.shards)):
            yield from self._pictures(number)

    def _pictures(self, number: int) -> Iterator[SourcePicture]:
        shard = self.shards[number]
        fault: Exception | None = None
        sample: list[_Member] = []
        try:
            with shard.open() as file:
                try:
                    for member in _members(file):
                        if sample and member.key != sample[0].key:
                            yield from self._sample(number, file, sample)
                            sample = []
                        sample.append(member)
                except (OSError, tarfile.TarError, ValueError) as error:
                    fault = error  # what came before it counts
                yield from self._sample(number, file, sample)
        except OSError as error:
            fault = error
        if fault is not None:
            reason = f"a tar file that cannot be read to its end: {type(fault).__name__}: {fault}"
            yield SourcePicture(f"{shard.name} (rest)", "", Unread(shard.name, reason))

    def _sample(self, number: int, file: Any, members: list[_Member]) -> Iterator[SourcePicture]:
        shard = self.shards[number]
        pictures = [member for member in members if named_like_image(member.name)]
        side = [member for member in members if member.name.endswith((".json", ".txt")) and member.start != _NO_FILE]
        side = side if pictures else []
        self.left_out += len(members) - len(pictures) - len(side)
        facts = self._facts(file, side)
        for member in pictures:
            stamp = f"{shard.stamp}:{member.start}:{member.size}" if shard.stamp else ""
            name, at = f"{shard.name}/{member.name}", _Position(number, member.start, member.size)
            link = Unread(name, "a link or a device, not a file")
            yield SourcePicture(name, stamp, link if member.start == _NO_FILE else at, facts)

    def _facts(self, file: Any, side: list[_Member]) -> dict[str, str]:
        facts: dict[str, str] = {}
        for member in sorted(side, key=lambda member: member.name.endswith(".json")):  # what .json says counts more
            if member.size > _LARGEST_SIDE_FILE_BYTES:
                continue
            file.seek(member.start)
            text = file.read(member.size).decode("utf-8", "replace")
            if member.name.endswith(".txt"):
                facts |= plain_facts({"title": text}, {})
                continue
            try:
                said = json.loads(text)
            except ValueError:
                continue
            facts |= plain_facts(said, self.named) if isinstance(said, dict) else {}
        return facts

    def estimate(self) -> int:
        """See `Source.estimate`: as many as in the first shard, by size."""
        first = next((number for number, shard in enumerate(self.shards) if shard.size_bytes), None)
        if first is None:
            return 0
        left_out, held = self.left_out, sum(1 for _ in self._pictures(first))
        self.left_out = left_out
        return held * sum(shard.size_bytes for shard in self.shards) // self.shards[first].size_bytes

    def find(self, name: str) -> SourcePicture | None:
        """See `Source.find`: all pictures are listed."""
        del name
        return None

    def open(self, picture: SourcePicture) -> Place:
        """See `Source.open`: the bytes, read from the shard that stays open until another is asked for."""
        at = picture.at
        if not isinstance(at, _Position):
            place: Place = at
            return place
        if at.size > LARGEST_FILE_BYTES:
            return Unread(picture.name, f"a file of {at.size} bytes, more than {LARGEST_FILE_BYTES}")
        try:
            file = self._file(at.shard)
            file.seek(at.start)
            content = file.read(at.size)
        except (OSError, ValueError) as error:
            self._opened = None
            return Unread(picture.name, f"{type(error).__name__}: {error}")
        if len(content) != at.size:
            return Unread(picture.name, f"{len(content)} of {at.size} bytes")
        return Content(picture.name, content)

    def _file(self, number: int) -> Any:
        if self._opened is None or self._opened[0] != number:
            if self._opened is not None:
                self._opened[1].close()
            self._opened = (number, self.shards[number].open())
        return self._opened[1]


def _members(file: Any) -> Iterator[_Member]:
    """The regular files of an archive.

    Raises:
        TarError: it is cut, or goes on with something else; tarfile alone would take either for its end.
    """
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # it keeps every member it has seen: millions
            if member.isreg():
                yield _Member(member.name, member.offset_data, member.size)
            elif not member.isdir():
                yield _Member(member.name, _NO_FILE, 0)
        _require_end(file, archive.offset)


def _require_end(file: Any, at: int) -> None:
    """Nothing but zeros must follow, and at least the block that ends an archive."""
    file.seek(at)
    if len(first := file.read(_BLOCK_BYTES)) < _BLOCK_BYTES:
        raise tarfile.ReadError(f"it ends at byte {at} without an end mark, as if it were cut")
    rest = first
    while rest:
        if rest.strip(b"\0"):
            raise tarfile.ReadError(f"there is more after its end, from byte {at}")
        rest = file.read(_REST_AT_ONCE_BYTES)
