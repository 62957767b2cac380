"""Every shipped rule fires on its examples and stays quiet on its near misses."""

from __future__ import annotations

import pytest

from services.detection import pack
from services.detection.domain.detector import Detector, Loaded
from services.detection.domain.rules import RateDetection, Rule
from services.detection.domain.trial import try_example
from services.detection.tests.watch import the_detector

RULES = sorted(pack.shipped())


@pytest.fixture(scope="module")
def detector() -> Detector:
    return the_detector()


def rule_of(rule_id: str) -> Rule:
    return pack.shipped()[rule_id].rule


@pytest.mark.parametrize("rule_id", RULES)
def test_rule_fires_on_its_examples_and_on_no_near_miss(rule_id: str, detector: Detector) -> None:
    rule = rule_of(rule_id)
    assert rule.examples.match, "a rule needs an example that matches"
    assert rule.examples.near_miss, "a rule needs a near miss"
    for example in rule.examples.match:
        assert try_example(detector, rule, example).fired, f"does not fire on {example}"
    for example in rule.examples.near_miss:
        assert not try_example(detector, rule, example).fired, f"fires on the near miss {example}"


@pytest.fixture(scope="module")
def re2_detector() -> Detector:
    """All rules as rules from the API run: without Hyperscan."""
    return pack.detector([Loaded(one.rule, 1) for one in pack.shipped().values()], frozenset())


@pytest.mark.parametrize("rule_id", RULES)
def test_rule_behaves_alike_under_re2_alone(rule_id: str, re2_detector: Detector) -> None:
    rule = rule_of(rule_id)
    if isinstance(rule.detection, RateDetection):
        # It looks at no text, and its examples are repeated hundreds of times.
        re2_detector = pack.detector([Loaded(rule, 1)], frozenset())
    for example in rule.examples.match:
        assert try_example(re2_detector, rule, example).fired, f"does not fire on {example}"
    for example in rule.examples.near_miss:
        assert not try_example(re2_detector, rule, example).fired, f"fires on the near miss {example}"
