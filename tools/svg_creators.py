"""Write a works table of pictures that were drawn from SVG files: file, title, creator and genre, from their metadata.

    python tools/svg_creators.py SVG PICTURES works.csv --held-out

SVG and PICTURES are folders with the same paths but for the ending, such as those of Debian's openclipart-svg and
openclipart-png. Creator and title are those of the RDF metadata (Dublin Core), the genre is the first folder and
the topic the first two. With `--held-out` only works whose title's sha256 starts with 0 to 3 are listed: those that
`mini` was never trained on (docs/models/mini.md). Links to other files are left out.
"""

import argparse
import csv
import hashlib
import sys
from pathlib import Path
from xml.etree import ElementTree

DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
ENDINGS = (".png", ".webp", ".jpg", ".jpeg")
COLUMNS = ("file", "title", "creator", "genre", "topic")


def said(root: ElementTree.Element, path: str) -> str:
    """The text of the first element that is there and not empty."""
    found = (" ".join((element.text or "").split()) for element in root.iterfind(path))
    return next(filter(None, found), "")


def row_of(svg: Path, picture: Path, inside: str) -> tuple[str, ...]:
    """One line of the table; without metadata the title is the file's name, and the creator is empty."""
    try:
        root = ElementTree.parse(svg).getroot()  # noqa: S314 - expat bounds what entities expand to
    except (ElementTree.ParseError, OSError, UnicodeDecodeError):
        root = ElementTree.Element("unreadable")
    title = said(root, f".//{DUBLIN_CORE}title") or picture.stem.replace("_", " ")
    creator = said(root, f".//{DUBLIN_CORE}creator//{DUBLIN_CORE}title")
    folders = Path(inside).parent.parts
    return inside, title, creator, "/".join(folders[:1]), "/".join(folders[:2])


def is_held_out(title: str) -> bool:
    """Whether the sha256 of a title starts with 0, 1, 2 or 3."""
    return hashlib.sha256(title.encode()).hexdigest()[0] in "0123"


def main() -> None:
    """Write the table, and say how many creators have how many pictures."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("svg", type=Path)
    arguments.add_argument("pictures", type=Path)
    arguments.add_argument("table", type=Path)
    arguments.add_argument("--held-out", action="store_true")
    given = arguments.parse_args()
    rows = []
    for picture in sorted(given.pictures.rglob("*")):
        inside = picture.relative_to(given.pictures)
        svg = given.svg / inside.with_suffix(".svg")
        if picture.suffix.lower() not in ENDINGS or svg.is_symlink() or not svg.is_file():
            continue
        row = row_of(svg, picture, inside.as_posix())
        if is_held_out(row[1]) or not given.held_out:
            rows.append(row)
    with given.table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    creators = [row[2] for row in rows if row[2]]
    several = sum(creators.count(name) > 1 for name in set(creators))
    sys.stderr.write(f"{len(rows)} pictures, {len(set(creators))} creators, {several} of them of several pictures\n")


if __name__ == "__main__":
    main()
