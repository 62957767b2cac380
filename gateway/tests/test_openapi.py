"""One document out of several; plain calls."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import validate

from gateway.openapi import merge


def document(path: str, schemas: dict[str, Any], answer: str, operation_id: str = "list") -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{answer}"}
    operation = {
        "operationId": operation_id,
        "responses": {"200": {"description": "ok", "content": {"application/json": {"schema": schema}}}},
    }
    problem = {"type": "object", "properties": {"title": {"type": "string"}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "x", "version": "1"},
        "paths": {path: {"get": operation}, "/livez": {"get": operation}},
        "components": {"schemas": {**schemas, "Problem": problem}},
    }


def text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def page_of(item: str) -> dict[str, Any]:
    items = {"type": "array", "items": {"$ref": f"#/components/schemas/{item}"}}
    return {"type": "object", "properties": {"items": items}}


def joined(**documents: dict[str, Any]) -> dict[str, Any]:
    merged = merge(documents, title="All", version="1.0", description="d")
    validate(merged)
    return merged


def answer_of(merged: dict[str, Any], path: str) -> str:
    ref = merged["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    return str(ref).rpartition("/")[2]


def test_equal_components_are_shared_and_different_ones_get_the_services_name() -> None:
    merged = joined(
        one=document("/v1/a", {"View": text("one's")}, "View", "a"),
        two=document("/v1/b", {"View": text("two's")}, "View", "b"),
        three=document("/v1/c", {"View": text("one's")}, "View", "c"),
    )
    assert [answer_of(merged, path) for path in ("/v1/a", "/v1/b", "/v1/c")] == ["View", "Two_View", "View"]
    assert merged["components"]["schemas"]["Two_View"]["description"] == "two's"
    assert set(merged["components"]["schemas"]) == {"View", "Two_View", "Problem"}


def test_components_of_equal_text_that_refer_to_different_things_are_different() -> None:
    merged = joined(
        one=document("/v1/a", {"Page": page_of("View"), "View": text("one's")}, "Page", "a"),
        two=document("/v1/b", {"Page": page_of("View"), "View": text("two's")}, "Page", "b"),
    )
    assert answer_of(merged, "/v1/b") == "Two_Page"
    items = merged["components"]["schemas"]["Two_Page"]["properties"]["items"]["items"]
    assert items == {"$ref": "#/components/schemas/Two_View"}


def test_components_that_refer_to_themselves_are_compared_without_end() -> None:
    node = {"type": "object", "properties": {"children": page_of("Node")}}
    merged = joined(
        one=document("/v1/a", {"Node": node}, "Node", "a"), two=document("/v1/b", {"Node": node}, "Node", "b")
    )
    assert answer_of(merged, "/v1/a") == answer_of(merged, "/v1/b") == "Node"


def test_discriminators_follow_a_renaming() -> None:
    choice = {
        "oneOf": [{"$ref": "#/components/schemas/View"}],
        "discriminator": {"propertyName": "kind", "mapping": {"v": "#/components/schemas/View"}},
    }
    merged = joined(
        one=document("/v1/a", {"View": text("one's")}, "View", "a"),
        two=document("/v1/b", {"Choice": choice, "View": text("two's")}, "Choice", "b"),
    )
    assert merged["components"]["schemas"]["Choice"]["discriminator"]["mapping"] == {
        "v": "#/components/schemas/Two_View"
    }


def test_every_operation_wants_a_credential_and_tells_what_the_gateway_may_answer() -> None:
    merged = joined(
        one=document("/v1/a", {"View": text("x")}, "View"), two=document("/v1/b", {"View": text("x")}, "View")
    )
    assert set(merged["paths"]) == {"/v1/a", "/v1/b"}  # /livez is not the gateway's to describe
    operations = [merged["paths"][path]["get"] for path in merged["paths"]]
    assert [operation["operationId"] for operation in operations] == ["list", "two_list"]
    for operation in operations:
        assert operation["security"] == [{"bearer": []}]
        assert {"401", "403", "429", "503"} <= set(operation["responses"])
        assert "Retry-After" in operation["responses"]["429"]["headers"]
    assert merged["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_the_documents_given_are_left_as_they_were() -> None:
    one = document("/v1/a", {"View": text("one's")}, "View")
    two = document("/v1/b", {"View": text("two's")}, "View")
    before = (repr(one), repr(two))
    joined(one=one, two=two)
    assert (repr(one), repr(two)) == before


@pytest.mark.parametrize("broken", [{}, {"paths": {}}, {"components": {"schemas": {}}}])
def test_a_document_without_anything_in_it_adds_nothing(broken: dict[str, Any]) -> None:
    merged = joined(one=broken, two=document("/v1/b", {"View": text("x")}, "View"))
    assert set(merged["paths"]) == {"/v1/b"}
