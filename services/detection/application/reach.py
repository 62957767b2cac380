"""Whose traffic a caller speaks of, and which assets it may know."""

from __future__ import annotations

from uuid import UUID

from services.detection.domain.assets import NoSuchAsset
from services.detection.store import assets
from services.detection.store.assets import Watched
from shared.auth import Caller
from shared.database import Tx
from shared.errors import Forbidden, Invalid


def team_of(caller: Caller) -> str:
    """Whose traffic a caller's is when no asset says so: the one team that it is bound to, else nobody's."""
    return next(iter(caller.teams)) if caller.teams is not None and len(caller.teams) == 1 else ""


def check_names_whose(caller: Caller, asset_id: UUID | None) -> None:
    """Refuse traffic of which nothing says whose it is.

    Raises:
        Invalid: the caller is bound to several teams and names no asset.
    """
    if asset_id is None and caller.teams is not None and len(caller.teams) > 1:
        raise Invalid("your key is bound to several teams: name the asset", field="/asset_id")


def whose_traffic(caller: Caller, team: str | None, does_what: str) -> str | None:
    """The team in whose traffic something is to hold that names no asset; None is everybody's.

    Raises:
        Invalid: a caller bound to several teams names none.
        Forbidden: the team is none of the caller's.
    """
    if caller.teams is None:
        return team
    if team is None and len(caller.teams) > 1:
        raise Invalid("say in which of your teams' traffic", field="/team")
    mine = next(iter(caller.teams), None) if team is None else team
    if mine is None or not caller.sees(mine):
        raise Forbidden(f"a caller who is bound to teams {does_what} in the traffic of these only")
    return mine


async def asset_of(tx: Tx, caller: Caller, asset_id: UUID) -> Watched:
    """An asset and how it is watched.

    Raises:
        NoSuchAsset: there is none, or it is not the caller's to know of.
    """
    return known(await assets.watched(tx, asset_id), caller, asset_id)


def known(watched: Watched | None, caller: Caller, asset_id: UUID) -> Watched:
    """The same of what was read.

    Raises:
        NoSuchAsset
    """
    if watched is None or not caller.sees(watched.asset.owner_team):
        detail = f"there is no asset {asset_id}"
        raise NoSuchAsset(detail, errors=[{"field": "/asset_id", "message": detail}])
    return watched
