import time
from datetime import UTC, datetime, timedelta

import pytest
from act_samples import accepted, output_of, why

from guardrail.act import ATTRIBUTION_LABEL, Signing, attribution_assertion, load_signing, make_development_keys, sign


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ours") / "keys"
    make_development_keys(folder)
    return folder


@pytest.fixture(scope="session")
def signing(keys) -> Signing:
    return load_signing(keys)


@pytest.fixture(scope="session")
def forger(tmp_path_factory) -> Signing:
    """A credential with the very same names as ours, under its own root."""
    folder = tmp_path_factory.mktemp("forger") / "keys"
    make_development_keys(folder)
    return load_signing(folder)


@pytest.fixture(scope="session")
def signed(signing):
    verdict = accepted()
    said = why(verdict) | {ATTRIBUTION_LABEL: attribution_assertion(verdict)}
    return sign(output_of(), verdict, said, signing)


@pytest.fixture(scope="session")
def outlived(tmp_path_factory):
    """(content, credential, another root's credential): signed while valid, then both leaves expired."""
    made = []
    until = datetime.now(UTC) + timedelta(seconds=3)
    for name in ("own", "other"):
        folder = tmp_path_factory.mktemp(name) / "keys"
        make_development_keys(folder, _not_after=until)
        made.append(load_signing(folder))
    verdict = accepted()
    content = sign(output_of(), verdict, why(verdict), made[0]).content
    time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds() + 1.0))
    return content, *made
