"""/v1/governance/controls: the library, and controls of our own beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import Path, Query
from starlette.responses import Response

from services.governance.api.fields import MappingsIn
from services.governance.application import controls as application
from services.governance.domain.controls import (
    Control,
    ControlFunction,
    ControlId,
    ControlText,
    Implementation,
    StoredControl,
)
from services.governance.domain.documents import Mappings
from services.governance.shipped import library
from services.governance.store import controls as store
from shared.auth import requires
from shared.contracts.governance import ControlType
from shared.contracts.inventory import AssetType
from shared.http import IfMatch, reply
from shared.models import Out, PageOf
from shared.paging import Page
from shared.service import router as new_router
from shared.work import Work

router = new_router("/v1/governance/controls", "controls")


class ControlIn(ControlText):
    """A control as it is written: what for, how to implement, verify and evidence it, and what it answers to."""

    mappings: MappingsIn = MappingsIn()

    def named(self, control_id: str) -> Control:
        return Control(id=control_id, **{name: getattr(self, name) for name in ControlText.model_fields})


class NewControl(ControlIn):
    """A control of your own with its id, e.g. OWN-INP-01; those beginning with CLN- are the library's."""

    control_id: ControlId


class ControlView(Out):
    """A control. `source` is library for the shipped ones, which cannot be changed, and own for those added."""

    control_id: str
    title: str
    objective: str
    function: ControlFunction
    control_type: ControlType | None
    applies_to: list[AssetType]
    owner_role: str
    evidence_valid_days: int
    implementation: Implementation
    mappings: Mappings
    source: Literal["library", "own"]
    version: int
    updated_by: str | None
    updated_at: datetime | None

    @classmethod
    def of(cls, stored: StoredControl) -> ControlView:
        document = stored.control.model_dump(exclude={"id"})
        return cls(
            **document,
            control_id=stored.control.id,
            source="library" if stored.source == "library" else "own",
            version=stored.version,
            updated_by=stored.updated_by,
            updated_at=stored.updated_at,
        )


ControlIdPath = Annotated[str, Path(max_length=64, description="E.g. CLN-INP-01.")]
OwnControlIdPath = Annotated[ControlId, Path(max_length=64, description="Of a control of your own.")]


@router.get("", response_model=PageOf[ControlView])
@requires("governance:read")
async def list_controls(
    work: Work,
    page: Page,
    function: Annotated[ControlFunction | None, Query()] = None,
    control_type: Annotated[ControlType | None, Query(description="As the risk model counts it.")] = None,
    applies_to: Annotated[AssetType | None, Query(description="Controls made for assets of this type.")] = None,
    maps_to: Annotated[
        str | None, Query(max_length=100, description="A framework entry, e.g. LLM01:2026, AML.M0020 or Art. 15.")
    ] = None,
    source: Annotated[Literal["library", "own"] | None, Query()] = None,
) -> Response:
    """All controls by id."""
    shipped = [StoredControl(control, "library") for control in library().controls.values()]
    found = sorted(shipped + await work.read(store.own_controls), key=lambda stored: stored.control.id)

    def wanted(stored: StoredControl) -> bool:
        control = stored.control
        keys = [framework.mapping_key for framework in library().frameworks.values()]
        return (
            (page.after is None or control.id > page.after[0])
            and (function is None or control.function is function)
            and (control_type is None or control.control_type is control_type)
            and (applies_to is None or applies_to in control.applies_to)
            and (maps_to is None or any(maps_to in control.mappings.of(key) for key in keys))
            and (source is None or stored.source == source)
        )

    rows = [ControlView.of(stored) for stored in found if wanted(stored)]
    items, cursor = page.cut(rows, "control_id")
    return reply(PageOf[ControlView](items=items, next_cursor=cursor))


@router.post("", status_code=201, response_model=ControlView)
@requires("governance:write")
async def add_control(body: NewControl, work: Work) -> Response:
    """Add a control of your own; ids beginning with CLN- are the library's."""
    return await work.run(
        lambda tx: application.add_control(tx, work.caller, body.named(body.control_id), datetime.now(UTC)),
        lambda stored: reply(
            ControlView.of(stored),
            status=201,
            etag=stored.version,
            location=f"/v1/governance/controls/{stored.control.id}",
        ),
    )


@router.get("/{control_id}", response_model=ControlView)
@requires("governance:read")
async def get_control(control_id: ControlIdPath, work: Work) -> Response:
    """One control with its implementation specification."""
    stored = await work.read(lambda tx: application.find_control(tx, control_id))
    return reply(ControlView.of(stored), etag=stored.version)


@router.put("/{control_id}", response_model=ControlView)
@requires("governance:write")
async def replace_control(control_id: OwnControlIdPath, body: ControlIn, work: Work, if_match: IfMatch) -> Response:
    """Replace a control of your own."""
    return await work.run(
        lambda tx: application.change_control(tx, work.caller, body.named(control_id), if_match, datetime.now(UTC)),
        lambda stored: reply(ControlView.of(stored), etag=stored.version),
    )
