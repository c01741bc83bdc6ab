"""The OpenAPI document: as FastAPI makes it, with problems under the type that they are sent as."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

__all__ = ["install"]

_PROBLEM = "#/components/schemas/ProblemAnswer"


def install(app: FastAPI) -> None:
    """Have an application tell its document like this; it is made when it is first asked for."""
    plain = app.openapi

    def told() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_problems(plain())
        return app.openapi_schema

    app.openapi = told  # type: ignore[method-assign]  # FastAPI's own way to change it


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    for operations in document["paths"].values():
        for operation in operations.values():
            for answer in operation["responses"].values():
                content = answer.get("content", {})
                said = content.get("application/json", {})
                if said.get("schema", {}).get("$ref") == _PROBLEM:
                    answer["content"] = {"application/problem+json": said}
    return document
