"""What of the Milvus backend needs no server: places, secrets, dates as expressions, and errors without one."""

import socket
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import ExtraMissing, IndexUnreachable, IndexUnsupported, SettingsInvalid
from guardrail.index.milvus import MilvusPlace, open_milvus
from guardrail.index.milvus.cluster import Cluster
from guardrail.index.milvus.layout import is_other, is_protected, key_of, standing_fields
from guardrail.plugins import build_plugins, registered
from guardrail.records import Disposition, Work

NOW = datetime(2026, 11, 22, 12, 0, 0, 123457, tzinfo=UTC)
SECRET = "sup3r-secret"


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("milvus://db.example", MilvusPlace("db.example", 19530, "default", "works", False)),
        ("milvus://db.example:1/art", MilvusPlace("db.example", 1, "art", "works", False)),
        ("milvus+tls://db.example:19531/art/stock", MilvusPlace("db.example", 19531, "art", "stock", True)),
        ("milvus://[::1]:19530/art/", MilvusPlace("::1", 19530, "art", "works", False)),
    ],
)
def test_place_is_read_and_told_again(location, place):
    assert MilvusPlace.parse(location) == place
    assert MilvusPlace.parse(str(place)) == place


@pytest.mark.parametrize(
    "location",
    [
        f"milvus://root:{SECRET}@db.example:19530/art",
        f"milvus://{SECRET}@db.example/art",
        f"milvus://db.example/art?token={SECRET}",
        f"milvus://db.example/art#{SECRET}",
    ],
)
def test_secret_in_a_url_is_refused_and_not_repeated(location):
    with pytest.raises(SettingsInvalid, match="GUARDRAIL_MILVUS_TOKEN") as caught:
        MilvusPlace.parse(location)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "location", ["milvus://", "milvus:///art", "milvus://h/a/b/c", "milvus://h/a-b", 'milvus://h/a"b', "milvus://h:x/a"]
)
def test_place_of_another_form_is_refused(location):
    with pytest.raises(SettingsInvalid):
        MilvusPlace.parse(location)


def test_token_is_taken_from_the_environment_and_hidden_in_texts(monkeypatch):
    monkeypatch.setenv("GUARDRAIL_MILVUS_TOKEN", f"root:{SECRET}")
    place = MilvusPlace.parse("milvus://db.example/art")
    assert place.connection()["token"] == f"root:{SECRET}"
    assert SECRET not in f"{place!r} {place}"
    assert SECRET not in MilvusPlace.hidden(f"login root:{SECRET} failed, password {SECRET}")


def test_certificate_that_is_not_there_is_said_before_anything_is_asked(monkeypatch, tmp_path):
    monkeypatch.setenv("GUARDRAIL_MILVUS_CA", str(tmp_path / "ca.pem"))
    with pytest.raises(SettingsInvalid, match=r"ca\.pem"):
        MilvusPlace.parse("milvus+tls://db.example/art").connection()


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "inf", "nan"])
def test_patience_is_a_positive_number(monkeypatch, seconds):
    monkeypatch.setenv("GUARDRAIL_MILVUS_PATIENCE_S", seconds)
    with pytest.raises(SettingsInvalid, match="positive"):
        _ = MilvusPlace.parse("milvus://db.example").patience_s


def test_missing_package_says_which_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pymilvus", None)
    with pytest.raises(ExtraMissing, match=r"diffusion-guardrail\[milvus\]"):
        open_milvus("milvus://127.0.0.1:1")


def test_nobody_there_is_an_error_that_says_what_to_do(monkeypatch):
    pytest.importorskip("pymilvus", reason="the package pymilvus (extra `milvus`) is not installed")
    monkeypatch.setenv("GUARDRAIL_MILVUS_TOKEN", f"root:{SECRET}")
    monkeypatch.setenv("GUARDRAIL_MILVUS_PATIENCE_S", "0.5")
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(IndexUnreachable, match="start it or correct the address") as caught:
            open_milvus(f"milvus://127.0.0.1:{taken.getsockname()[1]}")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None, "pymilvus' error may hold what we hide"


@pytest.mark.parametrize(
    ("version", "is_fit"), [("v2.3.5-lite", True), ("2.6.1", True), ("v3.0", True), ("v2.2.16", False), ("?", False)]
)
def test_server_that_is_too_old_is_refused(monkeypatch, version, is_fit):
    pymilvus = pytest.importorskip("pymilvus", reason="the package pymilvus (extra `milvus`) is not installed")

    class Old:
        def __init__(self, **said): ...

        def get_server_version(self, timeout):
            return version

    monkeypatch.setattr(pymilvus, "MilvusClient", Old)
    if is_fit:
        Cluster(MilvusPlace.parse("milvus://db.example"))
    else:
        with pytest.raises(IndexUnsupported, match=r"2\.3"):
            Cluster(MilvusPlace.parse("milvus://db.example"))


def test_both_schemes_are_offered_without_loading_pymilvus():
    assert {"folder", "milvus", "milvus+tls"} <= registered(build_plugins(), "register_index_backends").keys()


MOMENTS = st.one_of(st.none(), st.integers(-2, 2).map(lambda micros: NOW + timedelta(microseconds=micros)))


@given(st.sampled_from(Disposition), MOMENTS, MOMENTS)
def test_expressions_say_what_standing_says(disposition, opted_out_at, expires_at):
    work = Work(work_id="w", disposition=disposition, opted_out_at=opted_out_at, expires_at=expires_at)
    fields = standing_fields(work)
    standing = work.standing(NOW)  # Milvus' expressions of comparisons are also Python's
    assert eval(is_protected(NOW), {}, fields) == (standing is Disposition.PROTECT)
    assert eval(is_other(NOW), {}, fields) == (standing not in (None, Disposition.PROTECT))


def test_keys_are_safe_and_never_run_together():
    names = [("a", "b/c"), ("a/b", "c"), ("", "a/b/c"), ('"] or key != "', "x"), ("\ud800", "x"), ("1:a", "b")]
    keys = {key_of(bank, work_id) for bank, work_id in names}
    assert len(keys) == len(names)
    assert all(len(key) == 24 and key.replace("-", "").replace("_", "").isalnum() for key in keys)
