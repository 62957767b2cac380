"""The six compliance gaps, as rules over one asset and a date.

`store` says the same set-wise in SQL; a test holds the two against each other.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum

from services.inventory.domain.asset import Asset
from shared.contracts.inventory import (
    DataClassification,
    Lifecycle,
    NetworkExposure,
    RegulatoryScope,
)

STALE_AFTER_DAYS = 90
HIGH_SENSITIVITY = (
    DataClassification.CONFIDENTIAL,
    DataClassification.RESTRICTED,
    DataClassification.REGULATED,
)


class Gap(StrEnum):
    NO_SECURITY_REVIEW = "no_security_review"
    STALE_REVIEW = "stale_review"
    MISSING_SBOM = "missing_sbom"
    UNCLASSIFIED_DATA = "unclassified_data"
    NO_OWNER = "no_owner"
    PUBLIC_EXPOSURE_HIGH_SENSITIVITY = "public_exposure_high_sensitivity"


def gaps_of(asset: Asset, as_of: date) -> frozenset[Gap]:
    """The gaps that the asset has on that day. A retired asset has none: nobody can close them any more.

    A regulatory scope of [none] says that no regime applies, so it counts as an empty one.
    """
    if asset.lifecycle is Lifecycle.RETIRED:
        return frozenset()
    review = asset.last_security_review
    regulated = any(scope is not RegulatoryScope.NONE for scope in asset.regulatory_scope)
    holds = {
        Gap.NO_SECURITY_REVIEW: review is None,
        Gap.STALE_REVIEW: review is not None and (as_of - review).days > STALE_AFTER_DAYS,
        Gap.MISSING_SBOM: asset.is_self_hosted and not asset.sbom_available,
        Gap.UNCLASSIFIED_DATA: asset.data_classification is DataClassification.INTERNAL and regulated,
        Gap.NO_OWNER: not asset.owner_team,
        Gap.PUBLIC_EXPOSURE_HIGH_SENSITIVITY: asset.network_exposure is NetworkExposure.PUBLIC
        and asset.data_classification in HIGH_SENSITIVITY,
    }
    return frozenset(gap for gap, present in holds.items() if present)
