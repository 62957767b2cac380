"""Numbers that stand for a person: payment cards, accounts, national identities, vehicles, wallets.

The arithmetic of check digits is stdnum's; ours is which number a pattern means, by the name it gave the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

from stdnum import bitcoin as stdnum_bitcoin
from stdnum import iban as stdnum_iban
from stdnum import luhn as stdnum_luhn
from stdnum.us import ssn as stdnum_ssn

from services.detection.domain.validators.around import NOWHERE, Around

# Numbers that payment providers publish for trying things out: valid by their check digit, and nobody's.
_TEST_CARDS = frozenset(
    """
    4111111111111111 4242424242424242 4012888888881881 4000056655665556 5555555555554444 5105105105105100
    5200828282828210 378282246310005 371449635398431 378734493671000 6011111111111117 6011000990139424
    30569309025904 38520000023237 3530111333300000 3566002020360505 4000000000000002 4000000000009995
    4222222222222 2223003122003222 5424000000000015 4007000000027 4217651111111119 4500600000000061
    6011000000000012 370000000000002 5019717010103742 6331101999990016 4000000000000077 4917610000000000
    """.split()
)
_CARD_PREFIX = re.compile(r"4|5[1-5]|2[2-7]|3[47]|3[068]|6(?:011|5|4[4-9]|2)|35|50|5[6-8]|6[0-9]|1800|2131|9792|8[12]")


def card(value: str, around: Around = NOWHERE) -> bool:
    """A payment card's number: an issuer's prefix, 12 to 19 digits, Luhn's check digit (ISO/IEC 7812-1).

    Of `label` PAYMENT_CARD, words before it say that it is a card's. Without them a number of 17 digits or more must be
    written in groups: identifiers in databases are as long.
    """
    digits = re.sub(r"\D", "", value)
    if not 12 <= len(digits) <= 19 or len(set(digits)) < 4 or digits in _TEST_CARDS:
        return False
    if around.label != "PAYMENT_CARD" and (len(digits) < 13 or (len(digits) > 16 and value == digits)):
        return False
    return _CARD_PREFIX.match(digits) is not None and bool(stdnum_luhn.is_valid(digits))


_EXAMPLE_IBANS = frozenset(
    {
        "DE89370400440532013000",
        "GB82WEST12345698765432",
        "GB29NWBK60161331926819",
        "GB33BUKB20201555555555",
        "DE91100000000123456789",
    }
)


def iban(value: str, around: Around = NOWHERE) -> bool:
    """ISO 13616, mod 97 and the country's own length; `DE89 3704 0044 0532 0130 00` is everybody's example."""
    compact = re.sub(r"[ -]", "", value).upper()
    if compact in _EXAMPLE_IBANS or not stdnum_iban.is_valid(compact, check_country=False):
        return False
    return len(set(compact[4:])) > 2


def us_ssn(value: str, around: Around = NOWHERE) -> bool:
    """Allotted areas and groups only; 078-05-1120 and 219-09-9999 were printed in advertisements."""
    digits = re.sub(r"\D", "", value)
    if len(digits) != 9 or len(set(digits)) < 3 or digits == "123456789":
        return False
    return bool(stdnum_ssn.is_valid(f"{digits[:3]}-{digits[3:5]}-{digits[5:]}"))


# The number that a label names -> stdnum's modules, of which one must hold it valid. None: only its form is known.
_NUMBERS: dict[str, tuple[str, ...]] = {
    "AR_CUIT": ("ar.cuit",),
    "AT_SVNR": ("at.vnr",),
    "AU_TFN": ("au.tfn",),
    "BE_NN": ("be.nn", "be.bis"),
    "BG_EGN": ("bg.egn",),
    "BR_CPF": ("br.cpf",),
    "BR_CNPJ": ("br.cnpj",),
    "CA_SIN": ("ca.sin",),
    "CH_AHV": ("ch.ssn",),
    "CL_RUT": ("cl.rut",),
    "CN_RIC": ("cn.ric",),
    "CZ_RC": ("cz.rc",),
    "DE_STEUER_ID": ("de.idnr",),
    "DE_STEUERNUMMER": ("de.stnr",),
    "DK_CPR": ("dk.cpr",),
    "EE_IK": ("ee.ik",),
    "ES_DNI": ("es.dni", "es.nie"),
    "FI_HETU": ("fi.hetu",),
    "FR_NIR": ("fr.nir",),
    "GB_NHS": ("gb.nhs",),
    "GR_AMKA": ("gr.amka",),
    "IE_PPS": ("ie.pps",),
    "IL_ID": ("il.idnr",),
    "IN_AADHAAR": ("in_.aadhaar",),
    "IN_PAN": ("in_.pan",),
    "IT_CODICE_FISCALE": ("it.codicefiscale",),
    "KR_RRN": ("kr.rrn",),
    "MX_CURP": ("mx.curp",),
    "NL_BSN": ("nl.bsn",),
    "NO_FNR": ("no.fodselsnummer",),
    "PL_PESEL": ("pl.pesel",),
    "PT_NIF": ("pt.nif",),
    "RO_CNP": ("ro.cnp",),
    "SE_PERSONNUMMER": ("se.personnummer",),
    "TR_TCKN": ("tr.tckimlik",),
    "US_ITIN": ("us.itin",),
    "ZA_ID": ("za.idnr",),
}


# Where words before a number only say that it is an identity's: those with check digits, by their length.
_BY_SIZE: dict[int, tuple[str, ...]] = {
    9: ("es.dni", "es.nie", "ie.pps", "il.idnr", "nl.bsn", "pt.nif", "ca.sin", "au.tfn", "cz.rc", "cl.rut"),
    10: ("at.vnr", "bg.egn", "gb.nhs", "cz.rc", "se.personnummer"),
    11: ("de.idnr", "be.nn", "br.cpf", "ee.ik", "gr.amka", "no.fodselsnummer", "pl.pesel", "tr.tckimlik", "fi.hetu"),
    12: ("in_.aadhaar", "se.personnummer"),
    13: ("ch.ssn", "kr.rrn", "ro.cnp", "za.idnr"),
    15: ("fr.nir",),
    16: ("it.codicefiscale",),
    18: ("cn.ric", "mx.curp"),
}


@lru_cache(maxsize=128)
def _module(name: str) -> Any:
    return import_module(f"stdnum.{name}")


_NINO_UNUSED = frozenset({"BG", "GB", "NK", "KN", "NT", "TN", "ZZ"})


def _nino(value: str) -> bool:
    """National Insurance: prefixes that are never issued are none; QQ123456C is the form's own example."""
    return value[:2].upper() not in _NINO_UNUSED and "123456" not in value


def _nric(value: str) -> bool:
    """Singapore: weights 2 7 6 5 4 3 2 and a letter for the remainder, other letters for foreigners."""
    first, digits, last = value[0].upper(), value[1:8], value[8].upper()
    total = sum(weight * int(digit) for weight, digit in zip((2, 7, 6, 5, 4, 3, 2), digits, strict=True))
    if first in "TG":
        total += 4
    elif first == "M":
        total += 3
    if first in "ST":
        return "JZIHGFEDCBA"[total % 11] == last
    if first in "FG":
        return "XWUTRQPNMLK"[total % 11] == last
    return "KLJNPQRTUWX"[10 - total % 11] == last


def _my_number(value: str) -> bool:
    """Japan: the last of twelve digits is 11 less a weighted sum modulo 11, 0 for 10 and 11."""
    digits = [int(one) for one in value]
    total = sum(digit * (at + 1 if at <= 6 else at - 5) for at, digit in enumerate(reversed(digits[:-1]), start=1))
    remainder = total % 11
    return digits[-1] == (0 if remainder <= 1 else 11 - remainder)


def _rrn(value: str) -> bool:
    """Korea: a date of birth and a digit for sex and century; numbers since October 2020 have no check digit."""
    return len(value) == 13 and 1 <= int(value[2:4]) <= 12 and 1 <= int(value[4:6]) <= 31 and value[6] in "12345678"


def _medicare(value: str) -> bool:
    """Australia: weights 1 3 7 9 1 3 7 9 over eight digits, the ninth checks; the first is 2 to 6."""
    total = sum(weight * int(digit) for weight, digit in zip((1, 3, 7, 9, 1, 3, 7, 9), value, strict=False))
    return value[0] in "23456" and total % 10 == int(value[8])


def _german_pension(value: str) -> bool:
    """Germany's Rentenversicherungsnummer: area, date of birth, initial, serial number, check digit (§ 147 SGB VI)."""
    digits = f"{value[:8]}{ord(value[8].upper()) - 64:02d}{value[9:]}"
    total = sum(
        sum(map(int, str(int(digit) * weight)))
        for digit, weight in zip(digits, (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1), strict=False)
    )
    return 1 <= int(value[2:4]) % 50 <= 31 and 1 <= int(value[4:6]) <= 12 and total % 10 == int(digits[-1])


_VIN_VALUES = dict(zip("ABCDEFGHJKLMNPRSTUVWXYZ", "12345678123457923456789", strict=True))
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def _vin(value: str) -> bool:
    """ISO 3779; the ninth place checks in North America, elsewhere it is free: then the word in front must do."""
    return len(value) == 17 and any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and len(set(value)) > 5


def vin_checked(value: str) -> bool:
    total = sum(
        weight * int(_VIN_VALUES.get(one, one)) for weight, one in zip(_VIN_WEIGHTS, value.upper(), strict=True)
    )
    return "0123456789X"[total % 11] == value[8].upper()


_OWN: dict[str, Callable[[str], bool]] = {
    "GB_NINO": _nino,
    "SG_NRIC": _nric,
    "JP_MY_NUMBER": _my_number,
    "KR_RRN": _rrn,
    "AU_MEDICARE": _medicare,
    "DE_RVNR": _german_pension,
    "VIN": _vin,
    "VIN_CHECKED": lambda value: _vin(value) and vin_checked(value),
}
_SEPARATORS = re.compile(r"[\s./–-]")


def national_id(value: str, around: Around = NOWHERE) -> bool:
    """Valid as the number that `label` names, or, without one, as any of those with check digits.

    Digits that are all alike never are.
    """
    compact = _SEPARATORS.sub("", value)
    if len(set(compact)) < 3 or compact.startswith("123456789"):
        return False
    own = _OWN.get(around.label)
    if own is not None:
        return own(compact)
    modules = _NUMBERS.get(around.label)
    if modules is None:
        modules = _BY_SIZE.get(len(compact), ())
    return any(_valid(one, value, compact) for one in modules)


# Their separator says which century the holder was born in.
_AS_WRITTEN = frozenset({"fi.hetu", "se.personnummer", "cz.rc"})


def _valid(name: str, value: str, compact: str) -> bool:
    return bool(_module(name).is_valid(value if name in _AS_WRITTEN else compact))


def wallet(value: str, around: Around = NOWHERE) -> bool:
    """An address of a currency: Base58Check and Bech32 carry a checksum; of others the form and the words in front."""
    if around.label == "BITCOIN_ADDRESS":
        return bool(stdnum_bitcoin.is_valid(value))
    return len(set(value.lower().removeprefix("0x"))) > 6
