"""A time stamp keeps a file ours beyond its certificate's end; without one, or with a stranger's, it expires."""

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from act_samples import accepted, output_of, why
from key_samples import OPENSSL, Shape, credential, serve_time_stamps

from guardrail.act import TimeStamping, sign, verify_file
from guardrail.errors import ReleaseFailed
from guardrail.records import VerifyOutcome

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl answers as the time stamp server")


@pytest.fixture(scope="module")
def outlived_stamps(tmp_path_factory):
    """(credential, root of the server, file with a time stamp, file without): both leaves have expired since."""
    for life_s in (8, 30, 90):  # a busy machine may not sign in so short a life
        with suppress(ReleaseFailed):
            return outlived_after(tmp_path_factory.mktemp("short"), life_s)
    return pytest.fail("no file was signed while the certificate held")


def outlived_after(folder, life_s):
    """The same, with certificates that hold for so long."""
    until = (datetime.now(UTC) + timedelta(seconds=life_s)).replace(microsecond=0)
    told, server = serve_time_stamps(folder, until)
    plain = credential(shape=Shape(until=until))
    stamped = replace(plain, time_stamp=TimeStamping(told.url, (told.root,)))
    verdict = accepted()
    try:
        files = [sign(output_of(), verdict, why(verdict), one).content for one in (stamped, plain)]
    finally:
        server.shutdown()
        server.server_close()
    time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds() + 1))
    return plain, told.root, *files


@pytest.mark.parametrize(
    ("stamped", "believed", "outcome", "finding"),
    [
        (True, True, VerifyOutcome.OURS, "holds"),
        (True, False, VerifyOutcome.EXPIRED, "fails"),
        (False, True, VerifyOutcome.EXPIRED, "absent"),
    ],
)
def test_outcome_after_the_certificate_has_expired(outlived_stamps, tmp_path, stamped, believed, outcome, finding):
    signing, root, with_stamp, without = outlived_stamps
    path = tmp_path / "old.png"
    path.write_bytes(with_stamp if stamped else without)
    report = verify_file(path, signing.anchors, (root,) if believed else ())
    assert (report.outcome, report.layers[1].finding) == (outcome, finding)
