"""Invented people's numbers, accounts, addresses and dates with right check digits, and numbers that are nobody's."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator

from stdnum import luhn, verhoeff

from services.detection.training.sensitive import DIGITS, HEX, UPPER, Sample, some

_FIRST = "Anna Bruno Chloé Dagmar Emre Fatima Giulia Hiro Ingrid João Katarzyna Lars Mónica Nils Olga Priya".split()
_LAST = "Haugen Moreau Kowalska Okafor Lindqvist Ferrari Tanaka Novák Çelik Oliveira Jansen Papadakis Weber".split()
_MAILERS = "gmail.com outlook.com web.de orange.fr libero.it proton.me wp.pl telia.se uol.com.br yahoo.co.jp".split()


def _digits(rnd: random.Random, size: int) -> str:
    return rnd.choice("123456789") + some(rnd, DIGITS, size - 1)


def _grouped(digits: str, sizes: tuple[int, ...], separator: str) -> str:
    groups, at = [], 0
    for size in sizes:
        groups.append(digits[at : at + size])
        at += size
    return separator.join(groups)


def _card(rnd: random.Random) -> str:
    prefix, size = rnd.choice(
        (("4", 16), ("51", 16), ("2223", 16), ("37", 15), ("6011", 16), ("36", 14), ("3530", 16), ("6221", 16))
    )
    body = prefix + some(rnd, DIGITS, size - len(prefix) - 1)
    number = body + luhn.calc_check_digit(body)
    if size == 16:
        return rnd.choice((number, _grouped(number, (4, 4, 4, 4), " "), _grouped(number, (4, 4, 4, 4), "-")))
    return rnd.choice((number, _grouped(number, (4, 6, size - 10), " ")))


# Country -> what its account numbers are made of (SWIFT's IBAN registry): n digits, a letters, c either.
_IBANS = {
    "AT": "16n", "BE": "12n", "BG": "4a6n8c", "CH": "5n12c", "CY": "8n16c", "CZ": "20n", "DE": "18n", "DK": "14n", "EE": "16n",
    "ES": "20n", "FI": "14n", "FR": "10n11c2n", "GB": "4a14n", "GR": "7n16c", "HR": "17n", "HU": "24n", "IE": "4a14n", "IT": "1a10n12c",
    "LT": "16n", "LU": "3n13c", "LV": "4a13c", "MT": "4a5n18c", "NL": "4a10n", "NO": "11n", "PL": "24n", "PT": "21n", "RO": "4a16c",
    "SA": "2n18c", "SE": "20n", "SI": "15n", "SK": "20n", "TR": "5n1n16c",
}  # fmt: skip


def _iban(rnd: random.Random) -> str:
    country = rnd.choice(sorted(_IBANS))
    body, size = "", ""
    for one in _IBANS[country]:
        if one.isdigit():
            size += one
            continue
        body += some(rnd, {"n": DIGITS, "a": UPPER, "c": UPPER + DIGITS}[one], int(size))
        size = ""
    number = "".join(str(int(one, 36)) for one in body + country + "00")
    iban = f"{country}{98 - int(number) % 97:02d}{body}"
    return rnd.choice((iban, " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))))


# Numbers in use by their form, with free digits as #: international, and as people write them at home.
_PHONES = (
    "+49 30 90#####", "+49 (0)171 4######", "0171 5######", "+33 6 12 ## ## ##", "06 12 ## ## ##", "+44 7911 ######", "07911 ######",
    "+44 20 7946 0###", "020 7219 ####", "+39 347 #######", "+34 612 ### ###", "+31 6 2#######", "06-2#######", "+32 470 ## ## ##",
    "0470 ## ## ##", "+41 79 2## ## ##", "079 2## ## ##", "+43 664 #######", "+46 70 2## ## ##", "070-2## ## ##", "+47 412 ## ###",
    "+45 20 ## ## ##", "+358 40 #######", "+48 601 ### ###", "+420 602 ### ###", "+36 20 2## ####", "+351 912 ### ###",
    "+90 532 ### ## ##", "0532 ### ## ##", "+7 916 ###-##-##", "+380 50 2## ## ##", "+972 50-2##-####", "+91 98### #####", "+81 90-2###-####",
    "090-2###-####", "+82 10-2###-####", "010-2###-####", "+86 138 #### ####", "+852 9### ####", "+65 9### ####", "+61 412 ### ###",
    "0412 ### ###", "+64 21 2## ####", "+27 82 2## ####", "+234 803 2## ####", "+55 11 9####-####", "(11) 9####-####", "+54 9 11 2###-####",
    "+52 55 2### ####", "(415) 2##-####", "415-2##-####", "+1 415 2## ####", "1-415-2##-####", "415.2##.####", "+1 (604) 2##-####",
)  # fmt: skip


def _phone(rnd: random.Random) -> str:
    return "".join(rnd.choice("23456789") if one == "#" else one for one in rnd.choice(_PHONES))


def _weighted(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def _cpf(rnd: random.Random) -> str:
    body = _digits(rnd, 9)
    for first in (10, 11):
        rest = _weighted(body, tuple(range(first, 1, -1))) * 10 % 11
        body += str(rest % 10)
    return rnd.choice((body, f"{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}"))


def _nhs(rnd: random.Random) -> str:
    while True:
        body = rnd.choice("4679") + some(rnd, DIGITS, 8)
        check = (11 - _weighted(body, tuple(range(10, 1, -1))) % 11) % 11
        if check < 10:
            return _grouped(body + str(check), (3, 3, 4), " ")


def _bsn(rnd: random.Random) -> str:
    while True:
        body = _digits(rnd, 8)
        check = _weighted(body, (9, 8, 7, 6, 5, 4, 3, 2)) % 11
        if check < 10:
            return body + str(check)


def _date(rnd: random.Random) -> tuple[int, int, int]:
    return rnd.randrange(1950, 2000), rnd.randrange(1, 13), rnd.randrange(1, 29)


def _pesel(rnd: random.Random) -> str:
    year, month, day = _date(rnd)
    body = f"{year % 100:02d}{month:02d}{day:02d}{some(rnd, DIGITS, 4)}"
    return body + str(-_weighted(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10)


def _personnummer(rnd: random.Random) -> str:
    year, month, day = _date(rnd)
    body = f"{year % 100:02d}{month:02d}{day:02d}{_digits(rnd, 3)}"
    return f"{body[:6]}-{body[6:]}{luhn.calc_check_digit(body)}"


def _hetu(rnd: random.Random) -> str:
    year, month, day = _date(rnd)
    body, serial = f"{day:02d}{month:02d}{year % 100:02d}", f"{rnd.randrange(2, 900):03d}"
    return f"{body}-{serial}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(body + serial) % 31]}"


def _dni(rnd: random.Random) -> str:
    number = rnd.randrange(10_000_000, 99_999_999)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def _nir(rnd: random.Random) -> str:
    year, month, _ = _date(rnd)
    body = f"{rnd.choice('12')}{year % 100:02d}{month:02d}{rnd.randrange(1, 95):02d}{_digits(rnd, 3)}{_digits(rnd, 3)}"
    number = f"{body}{97 - int(body) % 97:02d}"
    return rnd.choice((number, _grouped(number, (1, 2, 2, 2, 3, 3, 2), " ")))


def _tckn(rnd: random.Random) -> str:
    digits = [int(one) for one in _digits(rnd, 9)]
    digits.append((sum(digits[0:9:2]) * 7 - sum(digits[1:8:2])) % 10)
    digits.append(sum(digits) % 10)
    return "".join(map(str, digits))


def _aadhaar(rnd: random.Random) -> str:
    body = rnd.choice("23456789") + some(rnd, DIGITS, 10)
    return _grouped(body + verhoeff.calc_check_digit(body), (4, 4, 4), " ")


def _ric(rnd: random.Random) -> str:
    year, month, day = _date(rnd)
    body = f"110105{year}{month:02d}{day:02d}{some(rnd, DIGITS, 3)}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[_weighted(body, weights) % 11]


def _za(rnd: random.Random) -> str:
    year, month, day = _date(rnd)
    body = f"{year % 100:02d}{month:02d}{day:02d}{_digits(rnd, 4)}08"
    return body + luhn.calc_check_digit(body)


def _nric(rnd: random.Random) -> str:
    digits = _digits(rnd, 7)
    return f"S{digits}{'JZIHGFEDCBA'[_weighted(digits, (2, 7, 6, 5, 4, 3, 2)) % 11]}"


def _steuer_id(rnd: random.Random) -> str:
    while True:
        figures = rnd.sample(DIGITS, 9)
        body = [*figures, figures[0]]
        rnd.shuffle(body)
        if body[0] != "0":
            break
    product = 10
    for one in body:
        total = (int(one) + product) % 10 or 10
        product = total * 2 % 11
    return "".join(body) + str((11 - product) % 10)


def _sin(rnd: random.Random) -> str:
    body = rnd.choice("1234567") + some(rnd, DIGITS, 7)
    return _grouped(body + luhn.calc_check_digit(body), (3, 3, 3), " ")


def _tfn(rnd: random.Random) -> str:
    while True:
        body = _digits(rnd, 9)
        if _weighted(body, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0:
            return _grouped(body, (3, 3, 3), " ")


def _street(rnd: random.Random) -> str:
    number = rnd.randrange(2, 240)
    return rnd.choice(
        (
            f"{number} {rnd.choice(('Maple', 'Harbour', 'Willow', 'Mill'))} {rnd.choice(('Street', 'Road', 'Lane', 'Avenue'))}, Springdale, {rnd.choice(('OR', 'TX', 'NY'))} {_digits(rnd, 5)}",
            f"{number} {rnd.choice(('Church', 'Station', 'Victoria'))} Road\n{rnd.choice(('Leeds LS6 2AB', 'Bristol BS1 5TR', 'London N1 9GU'))}",
            f"{rnd.choice(('Linden', 'Garten', 'Schiller'))}{rnd.choice(('straße', 'weg', 'platz'))} {number}, {_digits(rnd, 5)} {rnd.choice(('Berlin', 'Köln'))}",
            f"{number} rue {rnd.choice(('de la Paix', 'des Lilas', 'Victor Hugo'))}, {_digits(rnd, 5)} Lyon",
            f"Via {rnd.choice(('Garibaldi', 'Roma', 'dei Mille'))} {number}, 00184 Roma",
            f"Calle {rnd.choice(('Mayor', 'de Alcalá', 'San Juan'))} {number}, 28013 Madrid",
            f"{rnd.choice(('Keizers', 'Prinsen'))}gracht {number}, 1016 AB Amsterdam",
            f"ul. {rnd.choice(('Marszałkowska', 'Długa'))} {number}, 00-001 Warszawa",
            f"Rua {rnd.choice(('Augusta', 'das Flores'))} {number}, Lisboa",
            f"{rnd.choice(('Stor', 'Kungs'))}gatan {number}, Stockholm",
            f"P.O. Box {_digits(rnd, 4)}, Boise",
        )
    )  # fmt: skip


_MONTHS = "January February March April May June July August September October November December".split()


def _birthday(rnd: random.Random) -> str:
    year, month, day = _date(rnd)
    return rnd.choice(
        (
            f"{day:02d}/{month:02d}/{year}",
            f"{year}-{month:02d}-{day:02d}",
            f"{day}.{month}.{year}",
            f"{_MONTHS[month - 1]} {day}, {year}",
        )
    )


def _address(rnd: random.Random) -> str:
    first, last = rnd.choice(_FIRST).lower(), rnd.choice(_LAST).lower()
    plain = str.maketrans("éóãáçôñ", "eoaacon")
    local = rnd.choice(
        (f"{first}.{last}", f"{first[0]}{last}{rnd.randrange(100)}", f"{last}_{first}", f"{first}+shop")
    ).translate(plain)
    return f"{local}@{rnd.choice(_MAILERS)}"


# Kind -> (how to make one, carriers).
_PERSONAL: dict[str, tuple[Callable[[random.Random], str], tuple[str, ...]]] = {
    "CARD": (_card, ("my card {v} was declined", "Charge {v} please", '{{"card_number": "{v}"}}', "Karte: {v}", "Pay with {v}, exp 09/29")),
    "IBAN": (_iban, ("Please transfer to {v}", "IBAN: {v}", "Mein Konto ist {v}.", '"iban": "{v}"')),
    "PHONE": (_phone, ("call me at {v}", "Tel.: {v}", "phone: {v}", "my number is {v}", "Téléphone : {v}", '{{"phone": "{v}"}}', "Reach Anna on {v} after six", "WhatsApp {v}")),
    "EMAIL": (_address, ("write to {v}", "{v}", "From: {v}", "my e-mail is {v}, thanks", "mailto:{v}", '{{"email":"{v}"}}')),
    "US_SSN": (lambda rnd: f"{rnd.randrange(100, 600)}-{rnd.randrange(10, 99)}-{rnd.randrange(1000, 9999)}", ("SSN: {v}", "my social is {v}", "{v}")),
    "GB_NHS": (_nhs, ("NHS number {v}", "NHS No: {v}")),
    "GB_NINO": (lambda rnd: f"{rnd.choice(('AB', 'CE', 'JG', 'SK', 'TW'))}{_digits(rnd, 6)}{rnd.choice('ABCD')}", ("National Insurance number: {v}", "NI number {v}", "my NINO is {v}")),
    "DE_STEUER_ID": (_steuer_id, ("Steuer-ID: {v}", "Meine Steueridentifikationsnummer lautet {v}")),
    "FR_NIR": (_nir, ("numéro de sécurité sociale : {v}", "NIR {v}")),
    "ES_DNI": (_dni, ("DNI: {v}", "mi DNI es {v}")),
    "NL_BSN": (_bsn, ("BSN: {v}", "mijn burgerservicenummer is {v}")),
    "PL_PESEL": (_pesel, ("PESEL: {v}", "mój PESEL to {v}")),
    "SE_PERSONNUMMER": (_personnummer, ("personnummer {v}", "{v}")),
    "FI_HETU": (_hetu, ("henkilötunnus {v}", "{v}")),
    "BR_CPF": (_cpf, ("CPF: {v}", "meu CPF é {v}")),
    "TR_TCKN": (_tckn, ("TC kimlik no: {v}", "T.C. Kimlik No {v}")),
    "IN_AADHAAR": (_aadhaar, ("Aadhaar: {v}", "my aadhaar number is {v}")),
    "IN_PAN": (lambda rnd: f"{some(rnd, UPPER, 3)}P{some(rnd, UPPER, 1)}{_digits(rnd, 4)}{some(rnd, UPPER, 1)}", ("PAN: {v}", "PAN card {v}")),
    "CN_RIC": (_ric, ("身份证号码：{v}", "{v}")),
    "ZA_ID": (_za, ("ID number: {v}", "South African ID {v}")),
    "SG_NRIC": (_nric, ("NRIC: {v}", "my NRIC is {v}")),
    "CA_SIN": (_sin, ("SIN: {v}", "social insurance number {v}")),
    "AU_TFN": (_tfn, ("TFN: {v}", "tax file number {v}")),
    "PASSPORT": (lambda rnd: f"{some(rnd, UPPER, 1)}{_digits(rnd, 8)}", ("Passport number: {v}", "passport no {v}", "Reisepass Nr. {v}")),
    "DRIVER_LICENSE": (lambda rnd: f"{some(rnd, UPPER, 1)}{_digits(rnd, 7)}", ("driver's license {v}", "Driver license number: {v}")),
    "DATE_OF_BIRTH": (_birthday, ("DOB: {v}", "date of birth {v}", "Geburtsdatum: {v}", "I was born on {v}", '{{"birth_date": "{v}"}}')),
    "MEDICAL_RECORD": (lambda rnd: _digits(rnd, 8), ("MRN: {v}", "Patient ID {v}", "medical record number {v}")),
    "IP": (lambda rnd: f"{rnd.choice((81, 92, 109, 177, 203))}.{rnd.randrange(1, 255)}.{rnd.randrange(114, 255)}.{rnd.randrange(1, 255)}", ("the visitor came from {v}", "client_ip={v}", "blocked address {v} again")),
    "STREET": (_street, ("Ship it to {v}", "I live at {v}", "Address: {v}", "{v}")),
}  # fmt: skip


def personal(seed: int, rounds: int = 12) -> Iterator[Sample]:
    rnd = random.Random(seed)
    for _ in range(rounds):
        for kind, (make, carriers) in _PERSONAL.items():
            yield Sample(rnd.choice(carriers).format(v=make(rnd)), kind, flagged=True)


def _broken_card(rnd: random.Random) -> str:
    body = "4" + some(rnd, DIGITS, 14)
    right = luhn.calc_check_digit(body)
    return body + rnd.choice([one for one in DIGITS if one != right])


_IMPERSONAL: dict[str, Callable[[random.Random], str]] = {
    "CARD_WITHOUT_CHECK": lambda rnd: f"order {_broken_card(rnd)} has shipped",
    "TEST_CARD": lambda rnd: "Use 4242 4242 4242 4242 in test mode",
    "ORDER": lambda rnd: f"Order no. {_digits(rnd, 10)} is late",
    "TRACKING": lambda rnd: f"tracking 1Z{some(rnd, UPPER + DIGITS, 16)}",
    "TIMESTAMP": lambda rnd: f"started at {1_700_000_000 + rnd.randrange(10**7)}, ended 2026-0{rnd.randrange(1, 9)}-1{rnd.randrange(10)} 10:3{rnd.randrange(10)}:00",
    "VERSION": lambda rnd: f"upgrade from version 1{rnd.randrange(10)}.2.{rnd.randrange(30)}.4{rnd.randrange(10)} to 2.0",
    "PRIVATE_IP": lambda rnd: f"listen on 192.168.{rnd.randrange(255)}.{rnd.randrange(1, 255)} and 10.0.0.{rnd.randrange(1, 255)}",
    "EXAMPLE_MAIL": lambda rnd: f"write to {rnd.choice(('user', 'alice', 'john.doe', 'test'))}@example.{rnd.choice(('com', 'org', 'net'))}",
    "ROLE_MAIL": lambda rnd: f"contact {rnd.choice(('support', 'info', 'sales', 'noreply', 'security'))}@acme-shop.net",
    "MONEY": lambda rnd: f"Revenue rose from {rnd.randrange(10, 99)},{_digits(rnd, 3)},{_digits(rnd, 3)} to 1{rnd.randrange(10)}2,884,120 dollars",
    "ISBN": lambda rnd: f"ISBN 978-3-16-1484{rnd.randrange(10)}0-{rnd.randrange(10)}",
    "ROOM": lambda rnd: f"Meet me in Room {rnd.randrange(100, 999)}, Building {rnd.randrange(1, 9)} at 10 am",
    "HISTORY": lambda rnd: f"The treaty was signed on {rnd.randrange(1, 28)} {rnd.choice(_MONTHS)} 19{rnd.randrange(10, 99)} in {rnd.choice(('Rome', 'Paris'))}.",
    "MATHS": lambda rnd: f"What is {_digits(rnd, 6)} * {_digits(rnd, 5)} - {_digits(rnd, 9)}?",
    "COORDINATES": lambda rnd: f"52.{_digits(rnd, 6)}, 13.{_digits(rnd, 6)}",
    "CODE": lambda rnd: f"for i in range({_digits(rnd, 4)}): total += values[i] * 0x{some(rnd, HEX, 8)}",
    "SCORES": lambda rnd: "The final was 7-6 6-4 3-6 6-2, the season 2023-24 was 101-61",
    "WORDS": lambda rnd: "How do I get a new passport, and is a driver's license or an SSN required?",
    "CITY": lambda rnd: f"{rnd.choice(_FIRST)} {rnd.choice(_LAST)} moved to {rnd.choice(('Berlin', 'Austin', 'Porto'))} in 20{rnd.randrange(10, 26)}",
    "UUID": lambda rnd: f"id {uuid.UUID(int=rnd.getrandbits(128))}",
    "HASH": lambda rnd: f"checksum {some(rnd, HEX, 40)}",
    "DIGEST_LOG": lambda rnd: f"2026-03-1{rnd.randrange(10)}T08:2{rnd.randrange(10)}:11Z worker[{_digits(rnd, 5)}]: job {_digits(rnd, 12)} done in {_digits(rnd, 4)} ms",
    "FICTION_PHONE": lambda rnd: f"call 555-01{rnd.randrange(10, 99)} now",
    "SKU": lambda rnd: f"SKU {_digits(rnd, 4)}-{_digits(rnd, 4)}-{some(rnd, UPPER, 2)}, part number {_digits(rnd, 3)}-{_digits(rnd, 3)}",
}  # fmt: skip


def impersonal(seed: int, rounds: int = 15) -> Iterator[Sample]:
    rnd = random.Random(seed)
    for _ in range(rounds):
        for kind, make in _IMPERSONAL.items():
            yield Sample(make(rnd), kind, flagged=False)
