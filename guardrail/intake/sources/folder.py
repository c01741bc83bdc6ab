"""A folder of images, or files named one by one, as a source."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from guardrail.carriers import SourcePicture
from guardrail.intake.sources.places import Place, Unread

__all__ = ["FilesSource", "FolderSource", "find_images", "named_like_image"]

Image.init()
_ENDINGS = frozenset(Image.registered_extensions())


def named_like_image(name: str) -> bool:
    """Whether a file has the ending of a picture."""
    return os.path.splitext(name)[1].lower() in _ENDINGS  # noqa: PTH122 - a name inside an archive is no path


def find_images(folder: Path) -> tuple[list[str], int]:
    """Files below a folder that are named like images, sorted, and how many others (hidden, other endings)."""
    source = FolderSource(folder)
    return [picture.name for picture in source if not isinstance(picture.at, Unread)], source.left_out


def _stamp(path: Path) -> str:
    """What tells that a file has not changed since: size and modification time; empty where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return ""
    return f"{facts.st_size}:{facts.st_mtime_ns}"


class FolderSource:
    """Every file below a folder that is named like an image; hidden files and folders are passed over.

    Links to files are followed, links to folders are not.

    Args:
        folder: it need not be there: then nothing is listed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.left_out = 0

    @property
    def location(self) -> str:
        """See `Source.location`."""
        return str(self.folder.resolve())

    def __iter__(self) -> Iterator[SourcePicture]:
        """See `Source`: files in the order of their names, folder by folder."""
        self.left_out = 0
        yield from self._below(self.folder, "", hidden=False)

    def _below(self, folder: Path, inside: str, *, hidden: bool) -> Iterator[SourcePicture]:
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        except OSError as error:
            yield SourcePicture(inside or ".", "", Unread(inside or ".", f"a folder that cannot be read: {error}"))
            return
        for entry in entries:
            name, unseen = f"{inside}{entry.name}", hidden or entry.name.startswith(".")
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(Path(entry.path), f"{name}/", hidden=unseen)
            elif not unseen and named_like_image(entry.name) and not entry.is_dir():
                yield SourcePicture(name, _stamp(Path(entry.path)), Path(entry.path))
            else:
                self.left_out += 1

    def estimate(self) -> int:
        """See `Source.estimate`: it counts, without looking at any file."""
        files = (name for where, _, names in os.walk(self.folder) for name in names if "/." not in where)
        return sum(named_like_image(name) and not name.startswith(".") for name in files)

    def find(self, name: str) -> SourcePicture | None:
        """See `Source.find`: a file of any name."""
        return SourcePicture(name, _stamp(self.folder / name), self.folder / name)

    def open(self, picture: SourcePicture) -> Place:
        """See `Source.open`."""
        place: Place = picture.at
        return place


class FilesSource:
    """Files that were named one by one, by the names they were given.

    Args:
        files: paths; one that is given twice counts once.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(dict.fromkeys(files))
        self.left_out = 0

    @property
    def location(self) -> str:
        """See `Source.location`."""
        return "\n".join(str(path.absolute()) for path in self.files)

    def __iter__(self) -> Iterator[SourcePicture]:
        """See `Source`: in the order given."""
        return (SourcePicture(path.as_posix(), _stamp(path), path) for path in self.files)

    def estimate(self) -> int:
        """See `Source.estimate`."""
        return len(self.files)

    def find(self, name: str) -> SourcePicture | None:
        """See `Source.find`: there are no others."""
        del name
        return None

    def open(self, picture: SourcePicture) -> Place:
        """See `Source.open`."""
        place: Place = picture.at
        return place
