"""What a refusal says of the fields that are wrong."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from shared.problems import field_errors


class Circle(BaseModel):
    type: Literal["circle"]
    radius: int


class Square(BaseModel):
    type: Literal["square"]
    sides: list[int]


class Drawing(BaseModel):
    shape: Annotated[Circle | Square, Field(discriminator="type")]
    label: str | list[Circle] = ""
    layers: dict[int, int] = {}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"shape": {"type": "circle"}}, {"/shape/radius"}),
        ({"shape": {"type": "circle", "radius": "wide"}}, {"/shape/radius"}),
        ({"shape": {"type": "square", "sides": [1, "two"]}}, {"/shape/sides/1"}),
        ({"shape": {"type": "star"}}, {"/shape"}),
        ({}, {"/shape"}),
        ([], {"body"}),
        ({"shape": {"type": "square", "sides": []}, "label": 5}, {"/label"}),
        ({"shape": {"type": "square", "sides": []}, "label": [{"type": "circle"}]}, {"/label", "/label/0/radius"}),
        ({"shape": {"type": "square", "sides": []}, "layers": {"a~/b": 1}}, {"/layers/a~0~1b"}),
    ],
)
def test_a_pointer_leads_through_the_body_that_was_sent(body: Any, fields: set[str]) -> None:
    with pytest.raises(ValidationError) as refused:
        Drawing.model_validate(body)
    assert {one["field"] for one in field_errors(refused.value.errors(), body)} == fields
