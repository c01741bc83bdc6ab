import pluggy
import pytest
from pydantic import ValidationError

from guardrail import hookspecs
from guardrail.records import GenerationContext, PrivacyClaim, PrivacyStatement
from guardrail_hooks import privacy_claim


def said(context):
    plugins = pluggy.PluginManager(hookspecs.PROJECT)
    plugins.add_hookspecs(hookspecs)
    plugins.register(privacy_claim)
    plugins.check_pending()
    (found,) = plugins.hook.describe_output(verdict=None, context=context, output=None, settings=None)
    return found


def run_of(folder):
    return GenerationContext(pipeline="DDIMPipeline", model_id=str(folder))


def test_the_claim_beside_the_weights_is_signed_with_its_standing(tmp_path):
    statement = PrivacyStatement(claim=PrivacyClaim(epsilon=2.0, delta=1e-5, made_by="the trainer"))
    (tmp_path / PrivacyStatement.FILE).write_text(statement.model_dump_json())
    found = said(run_of(tmp_path))
    assert list(found) == ["org.guardrail.privacy_claim"]
    assert found["org.guardrail.privacy_claim"]["claim"]["epsilon"] == 2.0
    assert found["org.guardrail.privacy_claim"]["standing"] == "untested"
    assert str(tmp_path) not in str(found)


def test_nothing_is_said_where_nothing_is_claimed(tmp_path):
    assert said(None) == {}
    assert said(run_of(tmp_path)) == {}
    assert said(GenerationContext(pipeline="DDIMPipeline")) == {}


def test_a_claim_that_cannot_be_read_withholds(tmp_path):
    (tmp_path / PrivacyStatement.FILE).write_text('{"claim": {}}')
    with pytest.raises(ValidationError):
        said(run_of(tmp_path))
