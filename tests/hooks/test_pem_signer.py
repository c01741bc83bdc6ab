import pluggy
import pytest

from guardrail import hookspecs
from guardrail.act import make_development_keys
from guardrail.errors import KeysMissing, KeysUnusable
from guardrail.settings import Settings
from guardrail_hooks import pem_signer


@pytest.fixture
def plugins():
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(pem_signer)
    manager.check_pending()
    return manager


def test_hook_provide_signer_loads_the_keys_of_the_settings(plugins, tmp_path):
    make_development_keys(tmp_path / "keys")
    signing = plugins.hook.provide_signer(settings=Settings(keys=tmp_path / "keys"))
    assert signing.name == "guardrail development"


def test_missing_keys_are_an_error_that_says_what_to_do(plugins, tmp_path):
    with pytest.raises(KeysMissing, match="guardrail keys init"):
        plugins.hook.provide_signer(settings=Settings(home=tmp_path))


def test_settings_name_a_time_stamp_server(plugins, tmp_path):
    make_development_keys(tmp_path / "keys")
    said = {"time_stamp_url": "http://stamps.example", "time_stamp_anchors": tmp_path / "keys" / "root.pem"}
    signing = plugins.hook.provide_signer(settings=Settings(keys=tmp_path / "keys", provenance=said))
    assert signing.time_stamp.url == "http://stamps.example"
    assert signing.time_stamp.anchors == ((tmp_path / "keys" / "root.pem").read_bytes(),)


def test_time_stamp_server_that_could_not_be_believed_is_an_error(plugins, tmp_path):
    make_development_keys(tmp_path / "keys")
    said = {"time_stamp_url": "http://stamps.example"}
    with pytest.raises(KeysUnusable, match="time_stamp_anchors"):
        plugins.hook.provide_signer(settings=Settings(keys=tmp_path / "keys", provenance=said))
