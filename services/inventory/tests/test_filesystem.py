"""Disks: what is found on real folders, what of it is said, and what a hostile disk cannot do."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.inventory.connectors.filesystem import CONNECTOR, Options, check, discover
from services.inventory.connectors.filesystem.cards import CardRefused, license_of, read_card
from services.inventory.connectors.filesystem.disk import Disk
from services.inventory.connectors.filesystem.hashing import Hasher, InMemoryDigests
from services.inventory.connectors.harvest import Harvest, InMemory
from services.inventory.domain.asset import Digest, SourceKind
from services.inventory.domain.claims import Found, ObservationKind, Severity
from services.inventory.settings import InventorySettings
from services.inventory.tests.apart import taken_for_one
from services.inventory.tests.benign_models import TENSORS, state_dict, torch_file
from services.inventory.tests.hostile_archives import torch_archive
from services.inventory.tests.hostile_models import gguf, h5_of, safetensors
from services.inventory.tests.hostile_pickles import system
from shared.contracts.inventory import AssetType, Relation
from shared.errors import Invalid

COMMIT = "c0ffee" + "0" * 34
OLDER = "deca" + "f" * 36
TOKEN = "hf_" + "aZ09bY18cX27dW36eV45fU54gT63hS72"
CARD = """---
license: apache-2.0
language:
- en
- de
base_model: mistralai/Mistral-7B-v0.1
datasets:
- acme/tickets
pipeline_tag: text-generation
library_name: transformers
metrics: [accuracy]
model-index:
- name: tiny
  results:
  - task: {type: text-generation}
    dataset: {name: ARC, type: ai2_arc}
    metrics: [{type: acc, value: 0.61}]
---
# Tiny

## Bias, Risks, and Limitations
It was taught by tickets and knows little else.

## Training
Long.
"""


def having(*roots: Path) -> InventorySettings:
    return InventorySettings.model_construct(discovery_roots=roots)


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    return path


def cached(
    hub: Path,
    repository: str,
    files: Mapping[str, object],
    commit: str = COMMIT,
    ref: str | None = "main",
    kind: str = "models",
) -> Path:
    """A snapshot as huggingface_hub leaves it: links into blobs, weights named by their SHA-256."""
    folder = hub / f"{kind}--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    for name, content in files.items():
        raw = (
            content
            if isinstance(content, bytes)
            else (content if isinstance(content, str) else json.dumps(content)).encode()
        )
        digest = (
            hashlib.sha256(raw).hexdigest()
            if isinstance(content, bytes)
            else hashlib.sha1(raw, usedforsecurity=False).hexdigest()
        )
        write(folder / "blobs" / digest, raw)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(folder / "blobs" / digest, link.parent))
    if ref:
        write(folder / "refs" / ref, commit)
    return snapshot


async def looked(
    *paths: Path, sink: InMemory | None = None, roots: Sequence[Path] = (), limit: int = 100_000, **options: Any
) -> tuple[InMemory, Harvest]:
    sink = sink or InMemory()
    harvest = Harvest(sink, entries_limit=limit)
    settings = having(*(roots or paths))
    await discover(Options(paths=[str(path) for path in paths], **options), settings, harvest)
    assert not taken_for_one(sink.found)
    return sink, harvest


def one(sink: InMemory, path: Path | str) -> Found:
    (found,) = [found for found in sink.found if found.locator == str(path)]
    return found


def claim(found: Found, attribute: str) -> tuple[Any, SourceKind, str]:
    (made,) = [made for made in found.claims if made.attribute == attribute]
    return made.value, made.kind, made.locator


def targets(found: Found) -> set[tuple[Relation, str]]:
    return {(link.relation, link.target) for link in found.links}


async def test_a_snapshot_of_the_hub_tells_its_licence_lineage_and_digests(tmp_path: Path) -> None:
    weights = safetensors(TENSORS, bytes(80))
    config = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "_name_or_path": "/tmp/out"}
    snapshot = cached(tmp_path, "acme/tiny", {"config.json": config, "model.safetensors": weights, "README.md": CARD})
    sink, harvest = await looked(tmp_path)
    assert not harvest.problems
    found = one(sink, snapshot)
    assert claim(found, "asset_type") == (AssetType.FINE_TUNED_MODEL, SourceKind.INFERRED, f"{snapshot}/README.md:6")
    assert claim(found, "license_type") == ("apache-2.0", SourceKind.DECLARED, f"{snapshot}/README.md:2")
    assert claim(found, "parameter_count") == ("24", SourceKind.INFERRED, f"{snapshot}/model.safetensors")
    assert claim(found, "integrity")[0] == (Digest("model.safetensors", "sha256", hashlib.sha256(weights).hexdigest()),)
    assert (found.value("name"), found.value("model_name")) == ("Local HF: acme/tiny", "acme/tiny")
    assert (found.value("model_version"), found.value("source_url")) == (COMMIT, "https://huggingface.co/acme/tiny")
    assert found.value("is_self_hosted") is True
    assert found.identities == ("hf:acme/tiny", f"hf:acme/tiny@{COMMIT}")
    assert targets(found) == {
        (Relation.FINE_TUNED_FROM, "hf:mistralai/Mistral-7B-v0.1"),
        (Relation.TRAINED_ON, "dataset:hf:acme/tickets"),
    }
    assert found.card is not None
    assert found.card["task"] == "text-generation"
    assert (found.card["architecture"], found.card["architecture_family"]) == ("MistralForCausalLM", "mistral")
    assert (found.card["languages"], found.card["refs"]) == (["en", "de"], ["main"])
    assert found.card["metrics"] == [{"type": "acc", "value": "0.61", "task": "text-generation", "dataset": "ARC"}]
    assert "knows little else" in found.card["limitations"]
    assert one(sink, "hf:mistralai/Mistral-7B-v0.1").identities == ("hf:mistralai/Mistral-7B-v0.1",)
    assert one(sink, "dataset:hf:acme/tickets").value("asset_type") is AssetType.TRAINING_DATASET
    assert sink.complete_scopes == {
        str(tmp_path): {str(snapshot), "hf:mistralai/Mistral-7B-v0.1", "dataset:hf:acme/tickets"}
    }


async def test_folders_of_one_name_are_different_models(tmp_path: Path) -> None:
    for team in ("search", "claims"):
        write(tmp_path / team / "final" / "config.json", {"model_type": "bert"})
    sink, _ = await looked(tmp_path)  # which sees to it that none would be taken for another
    assert [found.value("name") for found in sink.found] == ["Local HF: final"] * 2


async def test_datasets_of_the_hub_are_different_datasets(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / f"datasets--acme--{name}" / "snapshots" / COMMIT
        write(folder / "README.md", "---\nlicense: mit\n---\n")
        write(folder.parents[1] / "refs" / "main", COMMIT)
    sink, _ = await looked(tmp_path)
    assert {found.value("model_name") for found in sink.found} == {"acme/one", "acme/two"}


async def test_only_the_revision_that_main_names_is_the_repository_itself(tmp_path: Path) -> None:
    config = {"model_type": "bert"}
    newer = cached(tmp_path, "acme/tiny", {"config.json": config})
    older = cached(tmp_path, "acme/tiny", {"config.json": config}, OLDER, ref=None)
    sink, _ = await looked(tmp_path)
    assert one(sink, newer).identities == ("hf:acme/tiny", f"hf:acme/tiny@{COMMIT}")
    assert one(sink, older).identities == (f"hf:acme/tiny@{OLDER}",)


async def test_an_adapter_is_tuned_from_its_base(tmp_path: Path) -> None:
    folder = tmp_path / "lora"
    write(folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "meta-llama/Llama-3.1-8B"})
    write(folder / "adapter_model.safetensors", safetensors(TENSORS, bytes(80)))
    sink, _ = await looked(tmp_path)
    found = one(sink, folder)
    assert found.value("asset_type") is AssetType.FINE_TUNED_MODEL
    (link,) = found.links
    assert (link.relation, link.target) == (Relation.FINE_TUNED_FROM, "hf:meta-llama/Llama-3.1-8B")
    assert link.locator == f"{folder}/adapter_config.json:3"
    assert found.value("parameter_count") is None
    assert found.card == {"adapter": "LORA", "formats": ["safetensors"]}


async def test_what_a_configuration_names_as_its_origin_is_no_invention(tmp_path: Path) -> None:
    plain = write(tmp_path / "bert" / "config.json", {"model_type": "bert"}).parent
    copied = write(tmp_path / "copy" / "config.json", {"model_type": "bert", "_name_or_path": "acme/bert"}).parent
    tuned = write(tmp_path / "tuned" / "config.json", {"model_type": "bert", "_name_or_path": "acme/bert"}).parent
    write(tuned / "trainer_state.json", {})
    write(tmp_path / "clone" / "config.json", {"model_type": "bert"})
    write(tmp_path / "clone" / ".git" / "config", '[remote "origin"]\n\turl = https://huggingface.co/acme/cloned\n')
    write(tmp_path / "webapp" / "config.json", {"port": 80})
    sink, _ = await looked(tmp_path)
    assert (one(sink, plain).value("model_name"), one(sink, plain).value("source_url")) == ("bert", None)
    assert one(sink, plain).identities == ()
    assert claim(one(sink, copied), "model_name") == ("acme/bert", SourceKind.INFERRED, f"{copied}/config.json:3")
    assert targets(one(sink, copied)) == {(Relation.DEPENDS_ON, "hf:acme/bert")}
    assert one(sink, tuned).value("asset_type") is AssetType.FINE_TUNED_MODEL
    assert one(sink, tuned).value("model_name") == "tuned"
    assert targets(one(sink, tuned)) == {(Relation.FINE_TUNED_FROM, "hf:acme/bert")}
    assert one(sink, tmp_path / "clone").identities == ("hf:acme/cloned",)
    assert len(sink.found) == 4


async def test_kinds_of_models_and_datasets(tmp_path: Path) -> None:
    st = tmp_path / "st"
    write(st / "config.json", {"model_type": "bert"})
    write(st / "modules.json", [])
    write(st / "1_Pooling" / "config.json", {"pooling_mode_cls_token": False})
    diffusion = tmp_path / "sd"
    write(diffusion / "model_index.json", {"_class_name": "StableDiffusionPipeline"})
    write(diffusion / "unet" / "config.json", {"_class_name": "UNet2DConditionModel", "model_type": "unet"})
    write(diffusion / "unet" / "diffusion_pytorch_model.safetensors", safetensors(TENSORS, bytes(80)))
    saved = write(tmp_path / "tf" / "saved_model.pb", b"").parent
    write(tmp_path / "data" / "README.md", "---\ndataset_info: {}\nlicense: cc-by-4.0\n---\n")
    write(tmp_path / "data" / "train.parquet", b"PAR1")
    snapshot = cached(tmp_path / "hub", "acme/tickets", {"README.md": "---\nlicense: mit\n---\n"}, kind="datasets")
    write(tmp_path / "keras" / "churn.h5", h5_of({"class_name": "Sequential", "config": {"layers": []}}))
    write(tmp_path / "numbers" / "table.h5", h5_of(None))
    write(tmp_path / "shards" / "big-00001-of-00002.gguf", gguf(general__architecture="llama"))
    write(tmp_path / "shards" / "big-00002-of-00002.gguf", gguf(general__architecture="llama"))
    sink, _ = await looked(tmp_path)
    kinds = {found.locator.removeprefix(f"{tmp_path}/"): found.value("asset_type") for found in sink.found}
    assert kinds == {
        "st": AssetType.EMBEDDING_MODEL,
        "sd": AssetType.FOUNDATION_MODEL,
        "tf": AssetType.FOUNDATION_MODEL,
        "data": AssetType.TRAINING_DATASET,
        str(snapshot.relative_to(tmp_path)): AssetType.TRAINING_DATASET,
        "keras/churn.h5": AssetType.FOUNDATION_MODEL,
        "shards/big.gguf": AssetType.FOUNDATION_MODEL,
    }
    assert saved.name == "tf"
    assert one(sink, snapshot).identities == ("dataset:hf:acme/tickets",)
    assert claim(one(sink, tmp_path / "data"), "license_type")[0] == "cc-by-4.0"
    assert one(sink, tmp_path / "shards" / "big.gguf").value("parameter_count") == "16"


async def test_a_gguf_file_is_known_by_its_content(tmp_path: Path) -> None:
    content = gguf(
        general__architecture="llama", general__license="llama3", tokenizer__chat_template="{{ x.__class__ }}"
    )
    path = write(tmp_path / "models" / "llama-q4.gguf", content)
    sink, _ = await looked(tmp_path, hash_weights=True)
    found = one(sink, path)
    assert found.identities == (f"sha256:{hashlib.sha256(content).hexdigest()}",)
    assert claim(found, "license_type") == ("llama3", SourceKind.DECLARED, str(path))
    (seen,) = found.observations
    assert (seen.kind, seen.severity) == (ObservationKind.UNSAFE_FILE, Severity.CRITICAL)
    assert "template" in seen.detail


async def test_dangerous_files_are_seen_and_not_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "loaded"
    config = {"model_type": "x", "auto_map": {"AutoModel": "modeling_x.X"}}
    weights = torch_archive(system(str(marker)))
    files = {"config.json": config, "pytorch_model.bin": weights, "modeling_x.py": "import os\nos.system('x')\n"}
    snapshot = cached(tmp_path / "hub", "evil/model", files)
    loose = write(tmp_path / "loose" / "churn.pkl", system(str(marker)))
    good = write(tmp_path / "good" / "net.pt", torch_file(state_dict("0")))
    sink, _ = await looked(tmp_path)
    kinds = {(seen.kind, seen.locator) for seen in one(sink, snapshot).observations}
    assert (ObservationKind.UNSAFE_FILE, f"{snapshot}/pytorch_model.bin/archive/data.pkl+0xe") in kinds
    assert (ObservationKind.REMOTE_CODE, f"{snapshot}/config.json") in kinds
    assert (ObservationKind.UNSAFE_FILE, f"{snapshot}/modeling_x.py") in kinds
    assert [seen.kind for seen in one(sink, loose).observations] == [ObservationKind.UNSAFE_FILE]
    assert one(sink, good).observations == ()
    assert not marker.exists()
    quiet, _ = await looked(tmp_path, scan_files=False)
    assert all(not found.observations for found in quiet.found)


async def test_hashing_reads_each_content_once_and_finds_what_was_changed(tmp_path: Path) -> None:
    snapshot = cached(
        tmp_path,
        "acme/tiny",
        {"config.json": {"model_type": "bert"}, "model.safetensors": safetensors(TENSORS, bytes(80))},
    )
    blob = (snapshot / "model.safetensors").resolve()
    blob.write_bytes(safetensors(TENSORS, b"\1" * 80))
    plain = write(tmp_path / "plain" / "config.json", {"model_type": "bert"}).parent
    write(plain / "model.safetensors", safetensors(TENSORS, bytes(80)))
    sink, _ = await looked(tmp_path, hash_weights=True)
    found = one(sink, snapshot)
    assert found.value("integrity") == (
        Digest("model.safetensors", "sha256", hashlib.sha256(blob.read_bytes()).hexdigest()),
    )
    assert [seen.kind for seen in found.observations] == [ObservationKind.INTEGRITY_MISMATCH]
    digest = hashlib.sha256((plain / "model.safetensors").read_bytes()).hexdigest()
    assert one(sink, plain).value("integrity") == (Digest("model.safetensors", "sha256", digest),)

    class Counted(InMemoryDigests):
        put_count = 0

        def put(self, key: tuple[int, int, int, int], digest: str) -> None:
            self.put_count += 1
            super().put(key, digest)

    os.link(plain / "model.safetensors", plain / "again.safetensors")
    cache = Counted()
    hasher = Hasher(Disk(tmp_path), cache, threading.Event(), threads=1)
    results = [
        begun.result()
        for begun in hasher.begin(
            [plain / "model.safetensors", plain / "again.safetensors", plain / "model.safetensors"]
        )
    ]
    hasher.close()
    assert [value for _, value in results] == [digest] * 3
    assert cache.put_count == 1


async def test_links_lead_neither_out_nor_in_circles(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    write(outside / "secret" / "config.json", {"model_type": "bert"})
    write(outside / "weights.pkl", system("/x"))
    write(root / "model" / "config.json", {"model_type": "bert"})
    (root / "model" / "loop").symlink_to(root)
    (root / "linked").symlink_to(outside)
    (root / "model" / "weights.pkl").symlink_to(outside / "weights.pkl")
    (root / "self.gguf").symlink_to(root / "self.gguf")
    write(root / "trap" / "model.safetensors", safetensors(TENSORS, bytes(80)))
    (root / "trap" / "config.json").symlink_to(outside / "secret" / "config.json")
    sink, harvest = await looked(root, hash_weights=True)
    assert {found.locator for found in sink.found} == {
        str(root / "model"), str(root / "self.gguf"), str(root / "trap" / "model.safetensors"),
    }  # fmt: skip
    messages = " ".join(problem.message for problem in harvest.problems)
    assert "leads out of the configured root" in messages
    assert [seen.kind for seen in one(sink, root / "model").observations] == [ObservationKind.UNREADABLE_FILE]
    assert not sink.complete_scopes


async def test_devices_pipes_and_holes_keep_nobody_waiting(tmp_path: Path) -> None:
    folder = write(tmp_path / "m" / "config.json", {"model_type": "bert"}).parent
    os.mkfifo(folder / "pipe.pkl")
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(50 << 30)
    with (tmp_path / "hole.gguf").open("wb") as file:
        file.truncate(50 << 30)
    sink, harvest = await looked(tmp_path, hash_weights=True)
    details = [seen.detail for seen in one(sink, folder).observations]
    assert any("no regular file" in detail for detail in details)
    assert any("most of which are a hole" in problem.message for problem in harvest.problems)
    assert one(sink, folder).value("integrity") is None
    assert str(tmp_path) in sink.complete_scopes


class Destructive(InMemory):
    """A disk whose folders vanish as soon as the first of them were taken in."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    async def take(self, scope: str, found: Sequence[Found]) -> None:
        await super().take(scope, found)
        shutil.rmtree(self.folder, ignore_errors=True)


async def test_a_folder_that_vanishes_makes_the_scope_stale(tmp_path: Path) -> None:
    for number in range(400):
        write(tmp_path / "models" / f"m{number:03}" / "config.json", {"model_type": "bert"})
    sink, harvest = await looked(tmp_path, sink=Destructive(tmp_path / "models"))
    assert len(sink.found) == 200
    assert not sink.complete_scopes
    assert "No such file" in sink.stale_scopes[str(tmp_path)]
    assert harvest.staled == [str(tmp_path)]


DENIED = """
import asyncio, os, sys
from pathlib import Path
from services.inventory.tests.test_filesystem import looked
os.setgid(65534); os.setuid(65534)
sink, harvest = asyncio.run(looked(Path(sys.argv[1])))
print(len(sink.found), len(sink.complete_scopes), harvest.problems[0].message)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who is denied")
def test_what_is_denied_is_told_and_hides_nothing_else() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "open" / "config.json", {"model_type": "bert"})
        write(folder / "closed" / "config.json", {"model_type": "bert"})
        (folder / "closed").chmod(0o700)
        for mode, said in ((0o755, "1 0 Permission denied"), (0o700, "0 0 Permission denied")):
            folder.chmod(mode)
            done = subprocess.run(
                [sys.executable, "-c", DENIED, folder / ("." if mode == 0o755 else "open")],
                cwd=Path(__file__).parents[3],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.stdout.strip() == said, done.stderr


async def test_names_and_files_that_make_no_sense_are_told(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    write(odd / "config.json", {"model_type": "bert"})
    write(tmp_path / "a" / "config.json", '{"model_type": ')
    write(tmp_path / "a" / "model.safetensors", safetensors(TENSORS, bytes(80)))
    write(tmp_path / "b" / "config.json", "[" * 100_000)
    write(tmp_path / "b" / "model.safetensors", safetensors(TENSORS, bytes(80)))
    write(tmp_path / "c" / "config.json", {"model_type": "bert", "architectures": {"x": 1}, "_name_or_path": ["y"]})
    write(tmp_path / "c" / "README.md", "---\na: &a [x, x]\nb: &b [*a, *a]\nlicense: mit\n---\n")
    write(tmp_path / "d" / "config.json", '{"model_type": "bert", "_name_or_path": "\\ud800"}')
    write(tmp_path / "e" / "adapter_config.json", "nonsense")
    write(tmp_path / "f" / "config.json", {"model_type": "bert"})
    write(
        tmp_path / "f" / "README.md",
        "---\nlicense: {a: [1, 2]}\nlanguage: 7\nbase_model: {x: y}\nmodel-index: [1, {results: 3}]\n---\n",
    )
    sink, harvest = await looked(tmp_path)
    told = {problem.where.removeprefix(f"{tmp_path}/"): problem.message for problem in harvest.problems}
    assert "UTF-8" in told[ascii(str(odd))]
    assert "no JSON" in told["a/config.json"]
    assert "no JSON" in told["b/config.json"]
    assert "without end" in told["c/README.md"]
    assert "no JSON" in told["e/adapter_config.json"]
    assert str(tmp_path / "f") in {found.locator for found in sink.found}
    assert str(tmp_path / "a" / "model.safetensors") in {found.locator for found in sink.found}
    assert not sink.complete_scopes


async def test_no_credential_leaves_the_disk(tmp_path: Path) -> None:
    write(
        tmp_path / "m" / "config.json",
        {"model_type": "bert", "token": TOKEN, "architectures": [TOKEN], "_name_or_path": f"/a/{TOKEN}"},
    )
    write(
        tmp_path / "m" / "README.md",
        f"---\nlicense: {TOKEN}\ntags: [{TOKEN}]\n---\n## Limitations\npassword=correct-horse-battery-staple\n",
    )
    write(tmp_path / "m" / "weights.gguf", gguf(general__name=TOKEN, general__license=TOKEN))
    write(tmp_path / "m" / "evil.pkl", f"c{TOKEN}\nx\n.".encode())
    write(tmp_path / TOKEN / "config.json", '{"model_type": ')
    write(tmp_path / TOKEN / "x.onnx", b"x")
    sink, harvest = await looked(tmp_path)
    everything = repr((sink.found, sink.stale_scopes, harvest.problems))
    assert "huggingface credential" in everything
    assert TOKEN not in everything
    assert "correct-horse" not in everything


async def test_a_run_that_is_full_or_ended_is_stale(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / f"m{number}" / "config.json", {"model_type": "bert"})
    sink, _ = await looked(tmp_path, limit=5)
    assert (len(sink.found), sink.complete_scopes) == (5, {})
    harvest = Harvest(InMemory(), read=[str(tmp_path)])
    await discover(Options(paths=[str(tmp_path)]), having(tmp_path), harvest)
    assert harvest.entries == 0


class Slow(InMemory):
    """A sink that takes in until the run is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Event()

    async def take(self, scope: str, found: Sequence[Found]) -> None:
        self.began.set()
        await asyncio.sleep(3_600)

    async def complete(self, scope: str, locators: Collection[str], seconds: float) -> None:
        raise AssertionError("a run that was cancelled completes nothing")


async def test_a_run_that_is_cancelled_ends_its_thread(tmp_path: Path) -> None:
    for number in range(300):
        write(tmp_path / f"m{number}" / "config.json", {"model_type": "bert"})
    sink = Slow()
    before = threading.active_count()
    run = asyncio.create_task(looked(tmp_path, sink=sink, hash_weights=True))
    await asyncio.wait_for(sink.began.wait(), 30)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert not sink.complete_scopes
    assert threading.active_count() <= before + 1  # the loop's own thread waits for more work


async def test_a_thousand_snapshots(tmp_path: Path) -> None:
    weights = safetensors(TENSORS, bytes(80))
    for number in range(1_000):
        cached(
            tmp_path,
            f"acme/m{number}",
            {"config.json": {"model_type": "bert"}, "model.safetensors": weights, "README.md": CARD},
        )
    sink, harvest = await looked(tmp_path)
    assert sum("/snapshots/" in found.locator for found in sink.found) == 1_000
    assert not harvest.problems


async def test_ollamas_store(tmp_path: Path) -> None:
    weights = gguf(general__architecture="llama")
    digest = hashlib.sha256(weights).hexdigest()
    licence = b"Apache License\n  Version 2.0, January 2004\n"
    licence_digest = hashlib.sha256(licence).hexdigest()
    manifest = write(
        tmp_path / "models" / "manifests" / "registry.ollama.ai" / "library" / "llama3.2" / "latest",
        {"schemaVersion": 2, "layers": [
            {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"},
            {"mediaType": "application/vnd.ollama.image.license", "digest": f"sha256:{licence_digest}"}]},
    )  # fmt: skip
    write(tmp_path / "models" / "blobs" / f"sha256-{digest}", weights)
    write(tmp_path / "models" / "blobs" / f"sha256-{licence_digest}", licence)
    sink, _ = await looked(tmp_path)
    found = one(sink, manifest)
    assert found.identities == ("model:ollama/llama3.2:latest", f"sha256:{digest}")
    assert (found.value("license_type"), found.value("parameter_count")) == ("apache-2.0", "8")
    assert str(tmp_path) in sink.complete_scopes


async def test_many_loose_files_are_one_asset(tmp_path: Path) -> None:
    for number in range(250):
        write(tmp_path / "checkpoints" / f"step{number}.pt", torch_file(state_dict("0")))
    sink, harvest = await looked(tmp_path)
    assert [found.locator for found in sink.found] == [str(tmp_path / "checkpoints")]
    assert "taken as one asset" in harvest.problems[0].message


def test_paths_outside_the_roots_are_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "out").symlink_to(tmp_path)
    settings = having(tmp_path / "root")
    for path in ("relative", str(tmp_path), str(tmp_path / "root" / "out"), str(tmp_path / "root" / ".."), "/\0"):
        with pytest.raises(Invalid):
            check(Options(paths=[path]), settings)
    check(Options(paths=[str(tmp_path / "root")]), settings)
    with pytest.raises(Invalid):
        check(Options(paths=[str(tmp_path)]), having())


async def test_a_path_that_is_not_there_is_stale(tmp_path: Path) -> None:
    sink, _ = await looked(tmp_path / "nowhere", roots=[tmp_path])
    assert "is not a folder" in sink.stale_scopes[str(tmp_path / "nowhere")]
    sink, _ = await looked(tmp_path, roots=[tmp_path / "other"])
    assert "outside" in sink.stale_scopes[str(tmp_path)]


@pytest.mark.parametrize(
    "front",
    ["a: &x [1]\nb: *x", "[" * 50 + "]" * 50, "a: [", "x: !!python/object/apply:os.getcwd []", "a: " + "x" * 70_000],
)
def test_a_front_matter_that_would_grow_or_run_is_refused(front: str) -> None:
    with pytest.raises(CardRefused):
        read_card(f"---\n{front}\n---\n")


def test_a_card_without_front_matter_says_what_its_sections_say() -> None:
    card = read_card("# Model\n## Intended uses\nTickets.\n## Limitations\n[More Information Needed]\n")
    assert card.facts == {"intended_use": "Tickets."}
    assert license_of("MIT License\n\nCopyright") == "mit"
    assert license_of("All rights reserved.") is None


def test_the_connector_says_what_it_needs() -> None:
    assert CONNECTOR.source.value == "filesystem"
    assert CONNECTOR.options.model_json_schema()["properties"]["hash_weights"]["default"] is False
