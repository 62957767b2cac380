"""The Kubernetes manifests render with real kubectl and keep the rules; a broken one is told apart from a good one."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import kubernetes_validate
import pytest

from deploy.k8s.secrets import manifests
from deploy.k8s.validate import RENDERED, faults, render


@pytest.mark.parametrize("folder", RENDERED)
def test_manifests_are_valid_and_restricted(folder: str) -> None:
    assert list(faults(render(folder))) == []


def the_service(documents: list[dict[str, Any]], kind: str = "Deployment") -> dict[str, Any]:
    return next(d for d in documents if d["kind"] == kind and d["metadata"]["name"].startswith("risk"))


def drop_probes(documents: list[dict[str, Any]]) -> None:
    del the_service(documents)["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]


def allow_root(documents: list[dict[str, Any]]) -> None:
    the_service(documents)["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] = False


def misspell(documents: list[dict[str, Any]]) -> None:
    the_service(documents)["spec"]["replicaz"] = 2


def forget_policy(documents: list[dict[str, Any]]) -> None:
    documents[:] = [d for d in documents if not (d["kind"] == "NetworkPolicy" and d["metadata"]["name"] == "risk")]


@pytest.mark.parametrize("spoil", [drop_probes, allow_root, misspell, forget_policy])
def test_a_spoiled_manifest_is_found(spoil: Callable[[list[dict[str, Any]]], None]) -> None:
    documents = deepcopy(render("base"))
    spoil(documents)
    assert list(faults(documents))


def test_every_secret_that_the_manifests_need_is_made() -> None:
    made = manifests("postgres:5432", "nats:4222")
    for secret in made:
        kubernetes_validate.validate(secret, "1.37", strict=True)
    names = {secret["metadata"]["name"] for secret in made}
    needed = set()
    for document in render("base"):
        if document["kind"] in ("Deployment", "Job"):
            pod = document["spec"]["template"]["spec"]
            needed |= {source["secretRef"]["name"] for source in pod["containers"][0]["envFrom"]}
            needed |= {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert needed <= names
