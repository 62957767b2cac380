"""AI in what builds and runs things: Dockerfiles, Compose, Kubernetes and Helm, GitHub Actions, Terraform."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from services.inventory.connectors.repository import credentials, documents, vocabulary
from services.inventory.connectors.repository.documents import Row, Table
from services.inventory.connectors.repository.estate import Estate, Place, line_text
from services.inventory.connectors.repository.walk import File
from services.inventory.domain import identity
from services.inventory.domain.claims import ObservationKind, Severity, found
from shared.contracts.inventory import AssetType, Relation

_INSTALL = re.compile(r"\b(?:pip3?|uv\s+pip|uv|poetry|pipx|conda|mamba)\s+(?:install|add|tool\s+install)\s+([^&|;\n]+)")
_NPM_INSTALL = re.compile(r"\b(?:npm|pnpm|yarn|bun)\s+(?:install|i|add)\s+([^&|;\n]+)")
_PULL = re.compile(r"\bollama\s+(?:pull|run)\s+([\w./:@-]+)")
_MODEL_OPTION = re.compile(
    r"(?:^|\s)--(?:model|model-id|model-path|served-model|hf-repo|model_id)(?:[ =]|\s+)[\"']?([\w./:@-]+)"
)
_DOWNLOAD = re.compile(r"\b(?:huggingface-cli|hf)\s+download\s+[\"']?([\w.-]+/[\w.-]+)")
_MODEL_VARIABLE = re.compile(
    r"^(?:MODEL|MODEL_ID|MODEL_NAME|HF_MODEL_ID|HF_MODEL|LLM_MODEL|OPENAI_MODEL|\w+_MODEL(?:_ID|_NAME)?)$"
)
_PACKAGE = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?(?:(?:==|>=|~=|<=|@)([\w.!+*-]+))?")
_NPM_PACKAGE = re.compile(r"^((?:@[\w.-]+/)?[\w.-]+)(?:@([\w.^~*-]+))?$")
_KUBERNETES_CONTAINERS = ("containers", "initContainers")


def is_dockerfile(file: File) -> bool:
    lowered = file.name.lower()
    return (
        lowered in {"dockerfile", "containerfile"}
        or lowered.startswith("dockerfile.")
        or lowered.endswith(".dockerfile")
    )


def read_dockerfile(estate: Estate, file: File, text: str) -> None:
    """Base images, packages that are installed, models that are fetched or served."""
    provider: str | None = None
    for number, line in _logical(text):
        place = Place(file, number)
        word, _, rest = line.partition(" ")
        keyword = word.upper()
        if keyword == "FROM":
            names = [part for part in rest.split() if not part.startswith("--")]
            provider = _image(estate, names[0], place) if names else provider
        elif keyword in {"RUN", "CMD", "ENTRYPOINT", "SHELL"}:
            told = rest
            if rest.lstrip().startswith("["):
                told = " ".join(part for part in re.findall(r'"((?:[^"\\]|\\.)*)"', rest))
            commands(estate, told, place, provider)
        elif keyword in {"ENV", "ARG"}:
            name, mark, value = rest.partition("=") if "=" in rest.partition(" ")[0] else rest.partition(" ")
            value = value.strip().strip("\"'")
            if mark and _MODEL_VARIABLE.match(name.strip()):
                estate.uses_model(value, provider or None, place)


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations, by the number of the first."""
    start, parts = 0, []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("#") or not stripped:
            continue
        start = start or number
        parts.append(stripped.removesuffix("\\"))
        if not stripped.endswith("\\"):
            yield start, " ".join(parts)
            start, parts = 0, []
    if parts:
        yield start, " ".join(parts)


def commands(estate: Estate, text: str, place: Place, provider: str | None = None) -> None:
    """Packages that a command line installs, and models that it fetches or serves."""
    text = text[:20_000]
    for match in _INSTALL.finditer(text):
        for word in _words(match[1]):
            if (package := _PACKAGE.match(word)) and not word.startswith(("-", ".", "/")):
                estate.package("pypi", package[1], package[2], place)
    for match in _NPM_INSTALL.finditer(text):
        for word in _words(match[1]):
            if package := _NPM_PACKAGE.match(word):
                estate.package("npm", package[1], package[2], place)
    for match in _PULL.finditer(text):
        estate.uses_model(match[1], "ollama", place)
    for match in _DOWNLOAD.finditer(text):
        estate.uses_model(match[1], "huggingface", place)
    serves = provider is not None or re.search(r"\bvllm\b|sglang|text-generation-launcher|llama-server|litellm", text)
    for match in _MODEL_OPTION.finditer(text) if serves else ():
        estate.uses_model(match[1], provider or None, place)
    served = re.search(r"\bvllm\s+serve\s+([\w./-]+)", text)
    if served:
        estate.uses_model(served[1], "huggingface", place)
    if serves and "--trust-remote-code" in text:
        estate.notice(ObservationKind.REMOTE_CODE, Severity.HIGH, "code of the served model is run", place)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _image(estate: Estate, image: str, place: Place) -> str | None:
    """Note an image of AI; the provider whose models it serves ("" for several), None where it is of something else."""
    kit = vocabulary.kit_of_image(image)
    if kit is None:
        return None
    estate.use(kit.title, place)
    shown = line_text(image, 200)
    estate.link(Relation.DEPENDS_ON, identity.image(shown), place)
    if "@sha256:" not in image:
        tag = image.rpartition(":")[2] if ":" in image.rpartition("/")[2] else ""
        severity = Severity.LOW if tag and tag != "latest" else Severity.MEDIUM
        detail = f"{shown} has no digest" + ("" if tag else " and no tag")
        estate.notice(ObservationKind.MUTABLE_IMAGE, severity, detail, place)
    if kit.title == "NVIDIA NIM":
        name = image.partition("nim/")[2].partition("@")[0].rpartition(":")[0] or image.partition("nim/")[2]
        estate.uses_model(name, "nvidia", place)
    if kit.role == "vector_store":
        estate.store(kit.title, None, None, place)
        return None
    return kit.provider


def read(estate: Estate, file: File, document: Any) -> None:
    """Compose files, manifests, charts' values, workflows: whatever names an image and its arguments."""
    if not isinstance(document, Table):
        return
    if ".github" in file.parts and ("jobs" in document or "runs" in document):
        _workflow(estate, file, document)
        return
    pending: list[tuple[Table, int]] = [(document, 0)]
    seen: set[int] = set()
    while pending:
        table, depth = pending.pop()
        if id(table) in seen or len(seen) > 20_000:
            continue
        seen.add(id(table))
        image = table.get("image")
        if isinstance(image, Table):
            repository = "/".join(part for part in (image.text("registry"), image.text("repository", "name")) if part)
            tag = str(image.get("tag") or "")
            image = f"{repository}:{tag}" if repository and tag else repository
        if isinstance(image, str) and image:
            _container(estate, file, table, image)
        for value in table.values():
            if isinstance(value, Table):
                pending.append((value, depth + 1))
            elif isinstance(value, Row):
                pending += [(item, depth + 1) for item in value if isinstance(item, Table)]


def _container(estate: Estate, file: File, table: Table, image: str) -> None:
    provider = _image(estate, image, Place(file, table.where("image")))
    for key in ("command", "args", "entrypoint", "extraArgs"):
        value = table.get(key)
        words = [str(item) for item in value] if isinstance(value, Row) else [value] if isinstance(value, str) else []
        if not words:
            continue
        line = table.at[key]
        if isinstance(value, Row):
            line = next((at for item, at in value.lines() if "model" in str(item)), line)
        commands(estate, " ".join(words), Place(file, line), provider)
    for key in ("env", "environment"):
        for name, text, line in _variables(table.get(key)):
            place = Place(file, line)
            if _MODEL_VARIABLE.match(name):
                estate.uses_model(text, provider or None, place)
            elif (one := credentials.secret_of(name, text)) is not None:
                estate.credential(one, name, place)
            elif "://" in text and vocabulary.provider_of_endpoint(text):
                estate.endpoint(credentials.bare_url(text), f"in {name}", place)


def _variables(value: Any) -> Iterator[tuple[str, str, int]]:
    if isinstance(value, Table):
        for name, text in value.items():
            if isinstance(text, str):
                yield name, text, value.at[name]
    elif isinstance(value, Row):
        for item, line in value.lines():
            if isinstance(item, str) and "=" in item:
                name, _, text = item.partition("=")
                yield name, text, line
            elif isinstance(item, Table) and isinstance(item.get("value"), str):
                yield item.text("name"), item["value"], item.at["value"]


def _workflow(estate: Estate, file: File, document: Table) -> None:
    """Steps of GitHub Actions that call models or install packages of AI."""
    jobs = document.table("jobs")
    steps = [
        (step, line)
        for job in [*jobs.values(), document.table("runs")]
        if isinstance(job, Table)
        for step, line in job.rows("steps").lines()
        if isinstance(step, Table)
    ]
    for step, line in steps:
        place = Place(file, line)
        action = step.text("uses").partition("@")[0].lower()
        if re.match(
            r"(?:actions/ai-inference|anthropics/claude-code|openai/codex|google-github-actions/run-gemini)", action
        ):
            estate.use(f"GitHub Action {line_text(action, 100)}", place.at(step.where("uses")))
            options = step.table("with")
            if model := options.text("model", "anthropic_model"):
                estate.uses_model(model, None, place.at(options.where("model", "anthropic_model")))
        if run := step.text("run"):
            commands(estate, run, place.at(step.where("run")))


_TERRAFORM = re.compile(r'^[ \t]*(?:resource|data)\s+"([\w-]+)"\s+"([\w-]+)"\s*\{', re.MULTILINE)
_ATTRIBUTE = re.compile(r'^[ \t]*([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|(\S[^\n]*))', re.MULTILINE)
_RESOURCES: tuple[tuple[str, AssetType, str], ...] = (
    ("aws_bedrockagent_agent", AssetType.AI_AGENT, "aws_bedrock"),
    ("aws_bedrockagentcore_agent_runtime", AssetType.AI_AGENT, "aws_bedrock"),
    ("aws_bedrockagent_knowledge_base", AssetType.VECTOR_DATABASE, "aws_bedrock"),
    ("aws_bedrock_guardrail", AssetType.GUARDRAIL_CONFIG, "aws_bedrock"),
    ("aws_bedrock_custom_model", AssetType.FINE_TUNED_MODEL, "aws_bedrock"),
    ("aws_bedrock_provisioned_model_throughput", AssetType.API_ENDPOINT, "aws_bedrock"),
    ("aws_sagemaker_endpoint", AssetType.API_ENDPOINT, "aws_sagemaker"),
    ("azurerm_cognitive_deployment", AssetType.API_ENDPOINT, "azure_openai"),
    ("google_vertex_ai_endpoint", AssetType.API_ENDPOINT, "gcp_vertex"),
    ("google_vertex_ai_index", AssetType.VECTOR_DATABASE, "gcp_vertex"),
    ("google_vertex_ai_reasoning_engine", AssetType.AI_AGENT, "gcp_vertex"),
    ("google_dialogflow_cx_agent", AssetType.AI_AGENT, "gcp_vertex"),
)
_CLOUDS = {"aws": "aws", "azurerm": "azure", "google": "gcp"}


def read_terraform(estate: Estate, file: File, text: str) -> None:
    """Resources of AI that Terraform declares: by their blocks, with attributes that are plain texts.

    Expressions, variables and modules are not evaluated; what they would say is left unsaid.
    """
    for match in _TERRAFORM.finditer(text):
        kind, label = match[1], match[2]
        known = next((entry for entry in _RESOURCES if entry[0] == kind), None)
        if kind == "azurerm_cognitive_account" or known is None:
            continue
        line = text.count("\n", 0, match.start()) + 1
        body = _block(text, match.end())
        attributes: dict[str, tuple[str, int]] = {}
        for one in _ATTRIBUTE.finditer(body):
            if one[2] is not None and "${" not in one[2]:
                attributes.setdefault(one[1], (one[2], line + body.count("\n", 0, one.start())))
        _resource(estate, file, known, label, line, attributes, body)


def _resource(
    estate: Estate,
    file: File,
    known: tuple[str, AssetType, str],
    label: str,
    line: int,
    attributes: dict[str, tuple[str, int]],
    body: str,
) -> None:
    kind, asset_type, provider = known
    place = Place(file, line)

    def told(*names: str) -> tuple[str, int]:
        return next((attributes[name] for name in names if name in attributes), ("", line))

    name, at = told("agent_name", "name", "custom_model_name", "display_name", "provisioned_model_name")
    locator = f"{file.location}#terraform/{kind}.{label}"
    entry = found(
        locator,
        asset_type=asset_type,
        description=line_text(told("description")[0]) or f"{kind}.{label} in {file.path}",
        cloud_provider=_CLOUDS[kind.partition("_")[0]],
    ).declared(str(place.at(at)), name=f"{line_text(name or label, 200)} of {estate.checkout.name}")
    entry = entry.with_claims(
        entry.claims[0].kind, str(place), asset_type=asset_type, cloud_provider=entry.value("cloud_provider"),
        description=entry.value("description"),
    )  # fmt: skip
    estate.add(entry)
    relation = {
        AssetType.GUARDRAIL_CONFIG: Relation.GUARDED_BY,
        AssetType.VECTOR_DATABASE: Relation.RETRIEVES_FROM,
    }.get(asset_type, Relation.DEPENDS_ON)
    estate.link(relation, locator, place)
    estate.use(f"Terraform {kind}", place)
    model, at = told("foundation_model", "base_model_identifier", "model_arn", "embedding_model_arn")
    if not model and kind == "azurerm_cognitive_deployment":
        block = re.search(r"\bmodel\s*\{([^}]*)\}", body)
        inner = re.search(r'\bname\s*=\s*"([^"]+)"', block[1]) if block else None
        if block and inner:
            model = inner[1]
            at = line + body.count("\n", 0, block.start() + block[0].index(inner[0]))
    if model:
        estate.uses_model(
            model.rpartition("/")[2] if model.startswith("arn:") else model, provider, place.at(at), locator
        )
    if asset_type is AssetType.AI_AGENT and (guard := re.search(r"guardrail_identifier\s*=\s*([\w.\"-]+)", body)):
        reference = re.match(r"aws_bedrock_guardrail\.([\w-]+)", guard[1])
        if reference:
            target = f"{file.location}#terraform/aws_bedrock_guardrail.{reference[1]}"
            estate.link(Relation.GUARDED_BY, target, place, locator)


def _block(text: str, start: int) -> str:
    """What stands between the braces that begin before `start`; texts and comments may hold braces too."""
    depth, at, end = 1, start, min(len(text), start + 200_000)
    while at < end:
        character = text[at]
        if character == '"':
            match = re.compile(r'"(?:[^"\\\n]|\\.)*"').match(text, at)
            at = match.end() if match else at + 1
            continue
        if character == "#" or text.startswith("//", at):
            newline = text.find("\n", at)
            at = newline if newline >= 0 else end
            continue
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            break
        at += 1
    return text[start:at]


def models_in(estate: Estate, file: File, document: Any) -> None:
    """Models that configuration names under a key for it, where the name tells whose they are."""
    for keys, value, line in documents.strings(document):
        if not keys or len(value) > 200:
            continue
        key = keys[-1].lower().replace("-", "_")
        if key in {
            "model",
            "model_name",
            "modelname",
            "model_id",
            "modelid",
            "deployment",
            "llm",
            "embedding_model",
        } or key.endswith("_model"):
            known = vocabulary.named_model(value)
            # Only with a digit or a hyphen: `model: sonar` may be a device.
            if known is not None and re.search(r"[-\d]", value):
                estate.uses_model(value, None, Place(file, line))
