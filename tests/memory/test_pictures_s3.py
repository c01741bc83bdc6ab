"""Pictures in a store with the interface of S3, on a server that is started here; needs `s3fs` and `moto[server]`."""

import os

import pytest

from guardrail.memory import Held, Memory
from guardrail.memory.pictures import Pictures
from guardrail.records import Decision
from guardrail.review_errors import PictureMissing

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def files():
    """The files of a server of the module; the library keeps its connection from test to test."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.get_host_and_port()[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield s3fs.S3FileSystem()
    server.stop()


@pytest.fixture
def bucket(files):
    files.mkdir("cases")
    yield files
    files.rm("cases", recursive=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of the libraries for S3
def test_pictures_are_kept_in_a_bucket(bucket):
    pictures, others = Pictures("s3://cases/pictures"), Pictures("s3://cases/pictures")
    png = os.urandom(300_000)
    sha256 = pictures.put(png)
    assert others.has(sha256)
    assert others.get(sha256) == png
    assert pictures.put(png) == sha256
    assert pictures.sweep(set()) == ()
    assert pictures.sweep({sha256}, older_than_h=-1) == ()
    bucket.pipe_file(f"cases/pictures/{sha256[:2]}/{sha256[2:4]}/{sha256}", b"another")
    with pytest.raises(PictureMissing, match="another file"):
        others.get(sha256)
    pictures.put(png)
    assert others.get(sha256) == png
    others.delete(sha256)
    others.delete(sha256)
    assert not pictures.has(sha256)
    with pytest.raises(PictureMissing, match="never kept"):
        pictures.get(sha256)
    pictures.put(png)
    assert pictures.sweep(set(), older_than_h=-1) == (sha256,)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of the libraries for S3
def test_case_with_its_picture_in_a_bucket_is_erased_there(bucket, url, making):
    memory = Memory(url, pictures="s3://cases/pictures")
    flagged = making.verdict(Decision.FLAG, verdict_id="1" * 32)
    memory.record_verdicts([Held(flagged, b"png")], None)
    assert len(bucket.find("cases")) == 1
    memory.erase("1" * 32, "request 17")
    bucket.invalidate_cache()
    assert bucket.find("cases") == []
    memory.close()
