"""Words of an attack that were taken apart or run together: `i.g.n.o.r.e`, `ig<b></b>nore`, `ignoreAll`.

There are more separators than anybody lists, so none is named here. All that is no letter is dropped, which takes a
microsecond a kilobyte, and one RE2 scan over what remains asks for the phrases that nearly every attack needs. Only
where one is found, and was not there to be read in the ordinary way, the words are put back with spaces between them,
for the rules to judge. A phrase this finds is no finding by itself.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import re2

from services.detection.domain.decoding import Fragment


def _words(text: str) -> list[str]:
    return text.split()


_VERBS = _words(
    """
    ignore ignoring disregard forget override overrule bypass circumvent discard neglect abandon dismiss
    reveal show print output repeat leak dump disclose display recite expose write translate summarize
    encode tell give send
    """
)
_SETTING_ASIDE = "ignore|disregard|forget|override|overrule|bypass|circumvent|discard|neglect|abandon|dismiss"
_TELLING = "reveal|show|print|output|repeat|leak|dump|disclose|display|recite|expose|write|translate|encode|tell|give"
_BETWEEN = "all|any|every|of|the|your|my|our|these|those|this|that|and|me|us|out|full|entire|whole|exact|complete|to|a"
_EARLIER = (
    "previous|prior|above|earlier|preceding|former|foregoing|initial|original|system|existing|current|past|old|safety"
    "|content|security|developer|hidden|secret|internal|your|default|ethical"
)
_ORDERS = (
    "instructions|instruction|prompts|prompt|rules|guidelines|guideline|directives|commands|orders|restrictions"
    "|policies|policy|programming|training|constraints|context|protocols|protocol|filters|guardrails|messages|message"
)
_CORE = (
    rf"(?:{_SETTING_ASIDE})(?:{_BETWEEN}){{0,5}}(?:{_EARLIER})(?:{_EARLIER}){{0,2}}(?:{_ORDERS})"
    rf"|(?:{_SETTING_ASIDE})(?:{_BETWEEN}){{0,4}}(?:{_ORDERS})(?:above|before|given|youwere|youhave|sofar)"
    r"|(?:forget|ignore|disregard)(?:everything|all|anything)(?:that)?(?:you|iwas|above|before|i)(?:were|have|just|know)?"
    rf"|(?:{_TELLING})(?:{_BETWEEN}){{0,5}}(?:{_EARLIER}){{1,3}}(?:prompt|instructions|rules|guidelines|message)"
    r"|(?:enable|activate|enter|switchto|unlock)(?:the|your)?(?:developer|debug|god|dan|jailbreak|admin|unrestricted)mode"
    r"|doanythingnow|youarenow(?:a|an|the|in|my)?(?:unrestricted|unfiltered|uncensored|dan|free|jailbroken|evil|developer)"
    r"|neverrefuses?(?:a|any|my|the)?(?:request|order|command|question)s?"
    r"|(?:donot|dont|never)(?:tell|inform|notify|alert|warn)(?:the)?(?:user|human|customer|operator)"
    r"|(?:forward|send|email|upload)(?:all|every|the|your|my|of){1,3}(?:emails|messages|passwords|credentials|contacts|files)"
)
_MORE = _words(
    """
    please now then and or just also you are were is be been told said given instructed what anything
    everything nothing it its i we they me my us our a an the this that these those all any every each of to
    in on at as by for from with without about into over not never no do does dont can cannot will must
    should have has had answer answers respond reply say follow obey execute act pretend become mode enable
    activate enter switch unlock turn off on dan god debug developer admin jailbreak unrestricted unfiltered
    uncensored assistant model chatbot ai user human customer operator request requests question questions
    order command refuse refuses restrictions limits limit password passwords key keys token tokens
    credentials contacts files emails email messages data address below line before after above so far know
    hidden secret secrets internal safety security content ethical new task tasks instead text words first
    last start forward upload delete transfer code file open free evil inform notify alert warn read run
    call
    """
)
_WORDS = frozenset(
    [*_VERBS, *_MORE, *_SETTING_ASIDE.split("|"), *_TELLING.split("|"), *_BETWEEN.split("|"), *_EARLIER.split("|"),
     *_ORDERS.split("|")]
)  # fmt: skip
_LONGEST_WORD = max(map(len, _WORDS))
_LONGEST_RUN = 240
_MAX_PLACES = 8
_JOINED_WORDS = 5
"""Words that stand in one identifier before it is no name any more: `reveal_system_prompt` is one, in our own code."""

_NO_LETTERS = bytes(sorted(set(range(256)) - set(range(ord("a"), ord("z") + 1))))
_LEET = bytes.maketrans(b"013457@$!|98+", b"oieastasilgbt")
_NO_LEET_LETTERS = bytes(sorted(set(_NO_LETTERS) - set(b"013457@$!|98+")))
_LEET_TEXT = str.maketrans("013457@$!|98+", "oieastasilgbt")
_REPEATED = re.compile(r"([a-z])\1+")
_MARKUP = re.compile(
    r"<!--.{0,200}?-->|</?[a-z][^<>]{0,200}>|&(?:shy|zwn?j|zerowidthspace|nbsp|#8203|#173|#x200b|#xad);", re.DOTALL
)
_TOKEN = re.compile(r"[a-z]+")


def _once(words: str) -> str:
    return _REPEATED.sub(r"\1", words)


def _once_each(data: bytes) -> bytes:
    """The same for a whole text in UTF-8."""
    codes = np.frombuffer(data, np.uint8)
    kept = np.ones(len(codes), bool)
    kept[1:] = (codes[1:] != codes[:-1]) | (codes[1:] < ord("a")) | (codes[1:] > ord("z"))
    return codes[kept].tobytes()


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern.encode(), options)


_TRIPLED = _compiled("|".join(letter * 3 for letter in "abcdefghijklmnopqrstuvwxyz"))
_GATE = _compiled(_CORE)
_GATE_ONCE = _compiled(_once(_CORE))
_WORDS_ONCE = {_once(word): word for word in sorted(_WORDS)}
_WORDS_AS_THEY_ARE = {word: word for word in _WORDS}


def separated(folded: str, data: bytes) -> list[Fragment]:
    """Places of a folded text where words of an attack stand with something between their letters, or nothing at all.

    Args:
        folded: the text, folded.
        data: the same in UTF-8.
    """
    shown = folded
    if "<" in folded or "&" in folded:
        shown = _MARKUP.sub(lambda match: " " * len(match.group()) if match.group() != "&nbsp;" else "      ", folded)
        data = shown.encode()
    found: list[Fragment] = []
    plain = data.translate(None, _NO_LETTERS)
    if _GATE.search(plain) is not None:
        found = list(_places(folded, shown, once=False))
    if not found:
        letters = data.translate(_LEET, _NO_LEET_LETTERS)
        if len(letters) != len(plain) and _GATE.search(letters) is not None:
            found = list(_places(folded, shown.translate(_LEET_TEXT), once=False))
    if (
        not found
        and _TRIPLED.search(data) is not None
        and _GATE_ONCE.search(_once_each(data).translate(None, _NO_LETTERS)) is not None
    ):
        found = list(_places(folded, shown, once=True))
    return found


def _places(folded: str, shown: str, *, once: bool) -> Iterator[Fragment]:
    codes = np.frombuffer(shown.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    chosen = (codes >= ord("a")) & (codes <= ord("z"))
    if once:
        chosen[1:] &= codes[1:] != codes[:-1]
    positions = np.flatnonzero(chosen)
    letters = codes[positions].astype(np.uint8).tobytes().decode("ascii")
    gate, words = (_GATE_ONCE, _WORDS_ONCE) if once else (_GATE, _WORDS_AS_THEY_ARE)
    last = 0
    for number, match in enumerate(gate.finditer(letters.encode())):
        start, least = match.span()
        if number >= _MAX_PLACES:
            return
        if start < last:
            continue
        first = int(positions[start])
        # In the middle of a word that goes on undisturbed ("signore") it is no verb.
        if first and shown[first - 1].isalpha() and not once:
            continue
        run = _segmented(letters[start : start + _LONGEST_RUN], words)
        length = sum(len(_once(word) if once else word) for word in run)
        if length < least - start:
            run, length = [letters[start:least]], least - start
        last = start + length
        end = int(positions[last - 1]) + 1
        if once:
            while end < len(shown) and shown[end] == shown[end - 1]:
                end += 1
        written = shown[first:end]
        if not _disguised(written, folded[first:end], run):
            continue
        yield Fragment(first, end, " ".join(run), "separation")


def _segmented(letters: str, words: dict[str, str]) -> list[str]:
    """The letters as words, as far as they go; where two readings are possible the one with fewer words."""
    best: dict[int, list[str]] = {0: []}
    for at in range(len(letters)):
        so_far = best.get(at)
        if so_far is None:
            continue
        for length in range(1, _LONGEST_WORD + 1):
            word = words.get(letters[at : at + length])
            if word is None or at + length > len(letters):
                continue
            known = best.get(at + length)
            if known is None or len(known) > len(so_far) + 1:
                best[at + length] = [*so_far, word]
    return best[max(best)]


def _disguised(written: str, original: str, words: Sequence[str]) -> bool:
    """False for words written as anybody writes them, with a comma here and there; and for names in code.

    Args:
        written: the place, with markup blanked.
        original: the same place with its markup.
        words: the words that its letters make up.
    """
    tokens = _TOKEN.findall(written.replace("'", "").replace("’", ""))
    if tokens == list(words):
        gaps = _TOKEN.split(written)[1:-1]
        odd = [gap for gap in gaps if not gap.isspace() and gap not in ("'", "’")]
        if written == original and len(odd) * 5 < len(gaps) * 3:
            return False
        return (
            written != original or len(words) >= _JOINED_WORDS or not all(gap in ("_", "-", ".", "/") for gap in gaps)
        )
    borders = set(_ends(words))
    cuts = set(_ends(tokens))
    split = [at for at in cuts - borders if not _two_words(at, words, cuts)]
    return bool(split) or len(borders - cuts) >= _JOINED_WORDS - 1


def _ends(words: Sequence[str]) -> Iterator[int]:
    at = 0
    for word in words:
        at += len(word)
        yield at


def _two_words(cut: int, words: Sequence[str], cuts: set[int]) -> bool:
    """Whether a cut inside a word leaves words of their own: can not, in to."""
    at = 0
    for word in words:
        if at < cut < at + len(word):
            inside = sorted(one for one in cuts if at < one < at + len(word))
            bounds = [at, *inside, at + len(word)]
            return all(word[low - at : high - at] in _WORDS for low, high in itertools.pairwise(bounds))
        at += len(word)
    return False
