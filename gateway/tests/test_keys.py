"""The format of API keys; plain calls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import keys

PEPPER = b"a pepper of tests only"


def test_a_generated_key_has_the_documented_shape() -> None:
    new = keys.generate()
    prefix, key_id, rest = new.plaintext.split("_")
    assert (prefix, key_id, len(rest)) == ("cln", new.id, keys.SECRET_LENGTH + keys.CHECKSUM_LENGTH)
    assert len(new.plaintext) == keys.KEY_LENGTH
    assert keys.key_id(new.plaintext) == new.id


def test_the_secret_holds_at_least_160_bits() -> None:
    assert 62**keys.SECRET_LENGTH > 2**160


def test_keys_do_not_repeat() -> None:
    assert len({keys.generate().plaintext for _ in range(2000)}) == 2000


def test_a_checksum_smaller_than_its_place_is_padded() -> None:
    # A CRC below 62**5 would come out short without padding; over many keys some have one.
    assert all(len(keys.generate().plaintext) == keys.KEY_LENGTH for _ in range(3000))


@given(position=st.integers(0, keys.KEY_LENGTH - 1), replacement=st.characters(min_codepoint=33, max_codepoint=126))
def test_every_typo_of_one_character_is_refused_offline(position: int, replacement: str) -> None:
    good = keys.generate().plaintext
    typo = good[:position] + replacement + good[position + 1 :]
    assert typo == good or keys.key_id(typo) is None


@given(st.text(max_size=80))
def test_arbitrary_text_is_no_key(text: str) -> None:
    assert keys.key_id(text) is None


@pytest.mark.parametrize("change", [str.upper, str.lower, lambda k: k + "\n", lambda k: " " + k, lambda k: k[:-1]])
def test_a_key_is_taken_to_the_letter(change) -> None:  # type: ignore[no-untyped-def]  # a table of plain functions
    assert keys.key_id(change(keys.generate().plaintext)) is None


def test_only_the_key_itself_under_a_pepper_in_use_matches_what_is_stored() -> None:
    one, other = keys.generate().plaintext, keys.generate().plaintext
    stored = keys.digest(PEPPER, one)
    assert keys.matches((PEPPER,), one, stored)
    assert keys.matches((b"the next pepper", PEPPER), one, stored)
    assert not keys.matches((PEPPER,), other, stored)
    assert not keys.matches((b"the next pepper",), one, stored)
    assert one.encode() not in stored
