"""`index dedup` as a person runs it: the clusters, the page with the pictures, and what the exit code says."""

import hashlib
import io
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from guardrail.carriers import IndexRows
from guardrail.desk.cli import app
from guardrail.index import FolderIndex
from guardrail.index.store.create import create_store
from guardrail.records import BitsLimit, Disposition, EmbedderSpec, IndexHeader, Limits, SimilarityLimit, Work

PAST = datetime(2020, 1, 1, tzinfo=UTC)
HEADER = IndexHeader(
    works=0,
    banks={},
    snapshot="0" * 64,
    unreadable=0,
    embedders={"copy": EmbedderSpec(name="made-up", weights_sha256="a" * 64, preprocessing="none", dimensions=8)},
    hashes={"pdq": "1", "phash": "1"},
    limits=Limits(
        pdq=BitsLimit(flag_within_bits=64, block_within_bits=31),
        correlation=SimilarityLimit(block_above=0.92),
        tile_l2_within=0.15,
    ),
    built_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)


def rows_of(shown):
    """Rows of (work, which picture it shows): the same number is the same picture."""
    works, numbers = zip(*shown, strict=True)
    pixels = np.stack([np.random.default_rng(at).integers(0, 256, (32, 32, 3), np.uint8) for at in numbers])
    arrays = {
        "pdq": np.stack([np.random.default_rng(at).integers(0, 256, 32, np.uint8) for at in numbers]),
        "phash": np.zeros((len(works), 8), np.uint8),
        "copy": np.zeros((len(works), 8), np.float16) + np.float16(8**-0.5),
        "pixels": pixels,
    }
    return IndexRows(
        works=works,
        files=tuple(f"{work.work_id}.png" for work in works),
        file_sha256=(None,) * len(works),
        pixels_sha256=tuple(hashlib.sha256(one.tobytes()).hexdigest() for one in pixels),
        arrays=arrays,
        previews=tuple(jpeg_of(one) for one in pixels),
    )


def jpeg_of(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


@pytest.fixture
def made(tmp_path):
    """Makes an index of (work, picture) pairs."""

    def make(*shown):
        create_store(tmp_path / "index", HEADER, [rows_of(shown)])
        return tmp_path / "index"

    return make


def work(name, **facts):
    return Work(work_id=name, **facts)


def test_index_without_duplicates_ends_with_0(made):
    done = run("index", "dedup", made((work("a"), 1), (work("b"), 2)))
    assert done.exit_code == 0, done.output
    assert "none of which shows the picture of another" in done.stdout


def test_duplicates_end_with_10_and_all_owners_are_named(made):
    index = made(
        (work("a", rights_holder="Ada"), 1), (work("b"), 2), (work("c", creator="Bo", bank="theirs"), 1), (work("d"), 1)
    )
    done = run("index", "dedup", index, "--json")
    assert done.exit_code == 10
    document = json.loads(done.stdout)
    assert (document["works"], document["contradictions"], len(document["clusters"])) == (4, 0, 1)
    cluster = document["clusters"][0]
    assert (cluster["size"], cluster["pictures"], cluster["contradicts"]) == (3, 1, False)
    assert cluster["owners"] == ["Ada", "Bo"]
    assert cluster["banks"] == ["default", "theirs"]
    assert [(one["row"], one["bank"], one["work_id"]) for one in cluster["works"]] == [
        (0, "default", "a"),
        (2, "theirs", "c"),
        (3, "default", "d"),
    ]
    assert "2 owners: Ada, Bo; banks: default, theirs" in run("index", "dedup", index).stdout


def test_contradiction_ends_with_11_and_comes_first(made):
    index = made(
        *((work(f"many-{at}"), 1) for at in range(4)),
        *((work(f"credited-{at}", disposition=Disposition.CREDIT), 2) for at in range(3)),
        (work("ours"), 2),
        (work("generic", disposition=Disposition.IGNORE), 3),
        (work("of somebody"), 3),
    )
    done = run("index", "dedup", index, "--json")
    assert done.exit_code == 11
    clusters = json.loads(done.stdout)["clusters"]
    assert [one["standings"] for one in clusters] == [
        {"ignore": 1, "protect": 1},
        {"credit": 3, "protect": 1},
        {"protect": 4},
    ]
    assert "2 contradict one another, and a person has to decide" in run("index", "dedup", index).stdout


def test_opt_out_and_expiry_decide_what_contradicts(made):
    index = made(
        (work("a"), 1),
        (work("b", disposition=Disposition.IGNORE, expires_at=PAST), 1),
        (work("c"), 2),
        (work("d", disposition=Disposition.CREDIT, opted_out_at=PAST), 2),
    )
    done = run("index", "dedup", index, "--json")
    assert done.exit_code == 10
    assert [one["standings"] for one in json.loads(done.stdout)["clusters"]] == [
        {"expired": 1, "protect": 1},
        {"protect": 2},
    ]


def test_min_leaves_out_smaller_clusters(made):
    index = made((work("a"), 1), (work("b"), 1), *((work(f"c{at}"), 2) for at in range(3)))
    clusters = json.loads(run("index", "dedup", index, "--min", 3, "--json").stdout)["clusters"]
    assert [one["size"] for one in clusters] == [3]
    assert run("index", "dedup", index, "--min", 4).exit_code == 0
    assert run("index", "dedup", index, "--min", 1).exit_code == 2


def test_page_holds_every_picture_and_fetches_nothing(made, tmp_path):
    index = made((work("a", title="A fox"), 1), (work("b", title="Its copy"), 1), (work("c"), 2))
    page = tmp_path / "page.html"
    done = run("index", "dedup", index, "--html", page)
    assert done.exit_code == 10, done.output
    text = page.read_text(encoding="utf-8")
    assert text.count("<img") == text.count('src="data:image/jpeg;base64,') == 2
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text
    assert "A fox" in text
    assert "the very same picture" in text


def test_page_escapes_what_the_index_says(made, tmp_path):
    hostile = "<script>alert(1)</script>"
    index = made(
        (work(hostile, title=hostile, rights_holder=hostile, bank=hostile, licence='"><img src=x>'), 1), (work("b"), 1)
    )
    run("index", "dedup", index, "--html", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<img src=x" not in text


def test_page_shows_of_a_large_cluster_the_rare_standing_and_names_the_rest(made, tmp_path):
    index = made(*((work(f"w{at}"), 1) for at in range(40)), (work("generic", disposition=Disposition.IGNORE), 1))
    assert run("index", "dedup", index, "--html", tmp_path / "page.html").exit_code == 11
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("<img") == 24
    assert text.index("default/generic") < text.index("default/w0")
    assert "17 more works" in text
    assert "default/w39" in text
    assert "near-copies of this picture may be let through" in text


def test_page_says_which_clusters_it_leaves_out(made, tmp_path, monkeypatch):
    monkeypatch.setattr("guardrail.desk.dedup_page._CLUSTERS", 1)
    index = made(*((work(f"{name}{at}"), at) for name in "ab" for at in range(3)))
    run("index", "dedup", index, "--html", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("<article") == 1
    assert "2 more are in the output of --json" in text


def test_work_without_a_picture_is_named(tmp_path):
    code = np.random.default_rng(1).integers(0, 256, 32, np.uint8)
    rows = IndexRows(
        (work("a"), work("b")), ("", ""), (None, None), (None, None), {"pdq": np.stack([code, code])}, (b"", b"")
    )
    create_store(tmp_path / "index", HEADER, [rows_of([(work("c"), 5)])])
    FolderIndex(tmp_path / "index").put(rows)
    assert run("index", "dedup", tmp_path / "index", "--html", tmp_path / "page.html").exit_code == 10
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("no picture kept") == 2


def test_page_without_clusters_says_so(made, tmp_path):
    assert run("index", "dedup", made((work("a"), 1)), "--html", tmp_path / "page.html").exit_code == 0
    assert "No work shows the picture of another." in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_place_where_no_page_can_be_is_refused_before_the_search(made, tmp_path):
    index = made((work("a"), 1), (work("b"), 1))
    done = run("index", "dedup", index, "--html", tmp_path / "nowhere" / "page.html")
    assert done.exit_code == 1
    assert "expected a file in a folder that is there" in str(done.exception)
    assert not (index / "cache").exists()


def test_missing_index_cannot_be_looked_at(tmp_path):
    assert run("index", "dedup", tmp_path / "none").exit_code == 1


def test_terminal_shows_no_control_characters_of_a_work(made):
    done = run("index", "dedup", made((work("a\x1b[31m", rights_holder="\x1b]0;x\x07"), 1), (work("b"), 1)))
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout


def test_info_says_what_is_known_of_duplicates(made):
    index = made((work("a"), 1), (work("b"), 1), (work("c"), 2))
    assert json.loads(run("index", "info", index, "--json").stdout)["near_duplicates"] is None
    assert "guardrail index dedup finds them" in " ".join(run("index", "info", index).stdout.split())
    run("index", "dedup", index)
    FolderIndex(index).put(rows_of([(work("d"), 3)]))
    assert json.loads(run("index", "info", index, "--json").stdout)["near_duplicates"] == {
        "clusters": 1,
        "works": 2,
        "largest": 2,
        "not_compared": 1,
    }
