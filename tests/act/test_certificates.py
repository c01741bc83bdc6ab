from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from act_samples import noise
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from key_samples import AUTHORITY, CREATED, LEAF, PURPOSES, certificate, credential, der_of, new_key, pem_of

from guardrail.act import anchor_of, encode_png, sdk
from guardrail.act.certificates import parse_pem, profile_faults, sha256_of
from guardrail.errors import KeysUnusable


def now():
    return datetime.now(UTC)


C2PA, MAIL = PURPOSES


def faults_of(**changes):
    key = new_key()
    return profile_faults(certificate("leaf", key, shape=replace(LEAF, **changes)))


def test_certificate_of_the_profile_has_no_fault():
    assert faults_of() == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"days": 366.1}, "366.1 days"),
        ({"granted": None}, "no key usage"),
        ({"granted": ("digital_signature", "key_cert_sign")}, "key_cert_sign"),
        ({"granted": ("digital_signature", "content_commitment")}, "content_commitment"),
        ({"granted": ("key_agreement",)}, "not digital_signature alone"),
        ({"usage_critical": False}, "not critical"),
        ({"purposes": None}, "no extended key usage"),
        ({"purposes": (MAIL,)}, "without 1.3.6.1.4.1.62558.2.1"),
        ({"purposes": (C2PA,)}, "without 1.3.6.1.5.5.7.3.4"),
        ({"purposes": (*PURPOSES, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)}, "with 2.5.29.37.0"),
        ({"purposes": (*PURPOSES, ExtendedKeyUsageOID.TIME_STAMPING)}, "with 1.3.6.1.5.5.7.3.8"),
        ({"purposes": (*PURPOSES, ExtendedKeyUsageOID.OCSP_SIGNING)}, "with 1.3.6.1.5.5.7.3.9"),
        ({"ca": None}, "no basic constraints"),
        ({"ca": True}, "certificate authority"),
        ({"subject_id": False}, "no subject key identifier"),
        ({"authority_id": False}, "no authority key identifier"),
    ],
)
def test_each_departure_from_the_profile_is_named(changes, said):
    (fault,) = faults_of(**changes)
    assert said in fault


def test_life_of_366_days_is_allowed():
    assert faults_of(days=366) == ()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (ec.generate_private_key(ec.SECP521R1()), "secp521r1"),
        (rsa.generate_private_key(65537, 1024), "1024 bits"),
    ],
    ids=["k1", "521", "rsa1024"],
)
def test_weak_or_odd_key_is_refused(key, said):
    (fault,) = profile_faults(certificate("leaf", key))
    assert said in fault


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["384", "rsa2048", "ed25519"],
)
def test_other_keys_of_the_profile_are_allowed(key):
    assert profile_faults(certificate("leaf", key)) == ()


def test_version_one_is_refused():
    (der,) = der_of(certificate("leaf", new_key()))
    old = x509.load_der_x509_certificate(_version_one(der))
    assert profile_faults(old) == ("X.509 v1, not v3",)


def _version_one(der):
    """The certificate without its version and extensions, which a version 1 certificate does not have."""
    outer, outer_at = _element(der, 0)
    body, body_at = _element(outer, 0)
    at, parts = 0, []
    while at < len(body):
        _, end = _element(body, at)
        parts.append(body[at:end])
        at = end
    kept = b"".join(part for part in parts if part[0] not in {0xA0, 0xA3})
    return _sequence(_sequence(kept) + outer[body_at:]) + der[outer_at:]


def _element(der, at):
    size, begins = der[at + 1], at + 2
    if size & 0x80:
        begins += size & 0x7F
        size = int.from_bytes(der[at + 2 : begins], "big")
    return der[begins : begins + size], begins + size


def _sequence(content):
    size = len(content).to_bytes(2, "big").lstrip(b"\0")
    return b"\x30" + bytes([0x80 | len(size)]) + size + content


@pytest.mark.parametrize("changes", [{"days": 3000}, {"subject_id": False}, {"purposes": (MAIL,)}])
def test_sdk_is_laxer_than_the_profile(changes):
    """If it once is not, our check is one too many."""
    signing = credential(shape=replace(LEAF, **changes))
    content = sdk.embed(encode_png(noise()), "image/png", CREATED, signing)
    assert sdk.read(content, "image/png", signing.anchors).state == "Trusted"
    with pytest.raises(KeysUnusable, match="certificate profile"):
        signing.require_usable(now())


def test_credential_outside_the_profile_is_refused_before_anything_is_signed():
    with pytest.raises(KeysUnusable, match="no authority key identifier"):
        credential(shape=replace(LEAF, authority_id=False)).require_usable(now())


# --- chains -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def family():
    """(root, root's key, intermediate, its key, leaf of the intermediate)."""
    root_key, between_key = new_key(), new_key()
    root = certificate("root", root_key, shape=AUTHORITY)
    between = certificate("between", between_key, root, root_key, AUTHORITY)
    leaf = certificate("leaf", new_key(), between, between_key)
    return root, root_key, between, between_key, leaf


def test_chain_leads_to_its_anchor(family):
    root, _, between, _, leaf = family
    other = certificate("other", new_key(), shape=AUTHORITY)
    assert anchor_of(der_of(leaf, between), [pem_of(other), pem_of(root)], now()) == sha256_of(root)


def test_chain_without_its_middle_leads_nowhere(family):
    root, *_, leaf = family
    assert anchor_of(der_of(leaf), [pem_of(root)], now()) is None


def test_same_names_under_another_root_lead_nowhere(family):
    root, *_ = family
    forged_key = new_key()
    forged = certificate("root", forged_key, shape=AUTHORITY)
    leaf = certificate("leaf", new_key(), forged, forged_key)
    assert anchor_of(der_of(leaf, forged), [pem_of(root)], now()) is None


def test_chain_counts_only_while_all_of_it_is_valid(family):
    root, _, between, _, leaf = family
    for days, found in [(299, sha256_of(root)), (301, None), (-1, None)]:
        assert anchor_of(der_of(leaf, between), [pem_of(root)], now() + timedelta(days=days)) == found


def test_leaf_of_ours_issues_nothing(family):
    root, _, between, between_key, _ = family
    key, grandchild = new_key(), new_key()
    leaf = certificate("leaf", key, between, between_key)
    forged = certificate("forged", grandchild, leaf, key)
    assert anchor_of(der_of(forged, leaf, between), [pem_of(root)], now()) is None


@pytest.mark.parametrize("changes", [{"granted": ("crl_sign",)}, {"granted": None}, {"ca": None}])
def test_intermediate_that_may_not_issue_leads_nowhere(family, changes):
    root, root_key, *_ = family
    key = new_key()
    between = certificate("between", key, root, root_key, replace(AUTHORITY, **changes))
    leaf = certificate("leaf", new_key(), between, key)
    assert anchor_of(der_of(leaf, between), [pem_of(root)], now()) is None


def test_root_that_issues_leaves_only_keeps_others_from_issuing():
    root_key, key = new_key(), new_key()
    root = certificate("root", root_key, shape=replace(AUTHORITY, path_length=0))
    between = certificate("between", key, root, root_key, AUTHORITY)
    assert anchor_of(der_of(certificate("leaf", new_key(), between, key), between), [pem_of(root)], now()) is None
    assert anchor_of(der_of(certificate("leaf", new_key(), root, root_key)), [pem_of(root)], now()) == sha256_of(root)


def test_certificate_that_may_not_sign_is_nobodys(family):
    root, root_key, *_ = family
    leaf = certificate("leaf", new_key(), root, root_key, replace(LEAF, granted=("key_agreement",)))
    assert anchor_of(der_of(leaf), [pem_of(root)], now()) is None


@pytest.mark.parametrize("chain", [(), (b"",), (b"\x30\x82not a certificate",)])
def test_chain_that_cannot_be_read_is_nobodys(family, chain):
    assert anchor_of(chain, [pem_of(family[0])], now()) is None


@pytest.mark.parametrize("chain", [(), "leaf"])
def test_anchor_that_is_none_is_an_error(family, chain):
    with pytest.raises(ValueError, match="PEM"):
        anchor_of(der_of(family[4]) if chain else (), [b"not PEM"], now())


def test_no_anchor_is_an_error(family):
    with pytest.raises(ValueError, match="no root certificate"):
        anchor_of(der_of(family[4]), [], now())


def test_certificates_are_parsed_once(family):
    pem = pem_of(family[0])
    assert parse_pem(pem) is parse_pem(bytes(bytearray(pem)))
