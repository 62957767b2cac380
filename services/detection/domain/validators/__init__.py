"""Is a match what its pattern takes it for? Check digits, randomness and placeholders, so that near misses stay quiet.

Each check takes the value and what is around it, and costs a few microseconds: texts made of nothing but candidates
must not be slow either.
"""

from __future__ import annotations

from collections.abc import Callable

from services.detection.domain.rules import Validator
from services.detection.domain.validators.around import NOWHERE, Around
from services.detection.domain.validators.contact import email, external_url, ip_address, phone
from services.detection.domain.validators.credentials import (
    assigned_secret,
    basic_credentials,
    entropy,
    jwt,
    plausible_password,
    plausible_secret,
    private_key,
    surprise,
    url_password,
)
from services.detection.domain.validators.identity import card, iban, national_id, us_ssn, wallet
from services.detection.domain.validators.postal import street_address

__all__ = [
    "Around",
    "assigned_secret",
    "basic_credentials",
    "card",
    "email",
    "entropy",
    "external_url",
    "holds",
    "iban",
    "ip_address",
    "jwt",
    "national_id",
    "phone",
    "plausible_password",
    "plausible_secret",
    "private_key",
    "street_address",
    "surprise",
    "url_password",
    "us_ssn",
    "wallet",
]

_CHECKS: dict[Validator, Callable[[str, Around], bool]] = {
    Validator.LUHN: card,
    Validator.IBAN: iban,
    Validator.PHONE: phone,
    Validator.EMAIL: email,
    Validator.US_SSN: us_ssn,
    Validator.NATIONAL_ID: national_id,
    Validator.WALLET: wallet,
    Validator.STREET_ADDRESS: street_address,
    Validator.SECRET: plausible_secret,
    Validator.ASSIGNED_SECRET: assigned_secret,
    Validator.PASSWORD: plausible_password,
    Validator.URL_PASSWORD: url_password,
    Validator.BASIC_CREDENTIALS: basic_credentials,
    Validator.PRIVATE_KEY: private_key,
    Validator.JWT: jwt,
    Validator.IP_ADDRESS: ip_address,
    Validator.EXTERNAL_URL: external_url,
}


def holds(validator: Validator, value: str, around: Around = NOWHERE) -> bool:
    """True when `value` passes the check."""
    return _CHECKS[validator](value, around)
