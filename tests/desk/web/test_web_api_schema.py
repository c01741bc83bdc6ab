"""Whatever a client sends, as the OpenAPI document has it or nearly so: an answer as described, and never a 5xx."""

import shutil

import pytest
import schemathesis
from api_samples import client_of
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
SCOPES = ("check", "verdicts:read", "works:write", "cases:read", "cases:decide", "webhooks:write")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_request_of_the_schema_is_a_fault_of_the_desk(make_desk, desk_world, tmp_path, open_case):
    shutil.copytree(desk_world / "index", tmp_path / "index")
    desk = make_desk(index=tmp_path / "index", upload_mb=1)
    client = client_of(desk, *SCOPES)
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", client.app, headers={"Host": "127.0.0.1"})
    schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    headers = {"Authorization": client.headers["Authorization"], "Host": "127.0.0.1"}
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=12,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case):
            nonlocal asked
            asked += 1
            case.call_and_validate(headers=headers, checks=CHECKS)

        ask()
    assert asked > 100
