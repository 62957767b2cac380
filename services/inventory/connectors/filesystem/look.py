"""Walks a disk and looks at what it comes upon: folders of models, the hub's cache, single files, datasets."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from services.inventory.connectors.filesystem import mapping, ollama
from services.inventory.connectors.filesystem.cards import CARD_LIMIT, Card, CardRefused, license_of, read_card
from services.inventory.connectors.filesystem.disk import Disk, Listing, Unreadable
from services.inventory.connectors.filesystem.hashing import Hasher
from services.inventory.connectors.filesystem.mapping import Document, Folder, document
from services.inventory.connectors.harvest import HarvestClosed, Scope
from services.inventory.domain.asset import Digest
from services.inventory.domain.claims import Found
from services.inventory.modelfiles import MODEL_SUFFIXES, Limits, Report, Stopped, Verdict, scan

DIGESTS_LIMIT = 200
HANDED_OVER = 50
WAITING = 64
"""Models whose files are being hashed while the walk goes on."""
SCANNED_LIMIT = 2_000
"""Files of one model that are scanned."""
SINGLES_LIMIT = 200
"""Single files of one folder that are assets each; where there are more, the folder is one asset."""
FOLDERS_LIMIT = 2_000_000
_BLOB = re.compile(r"[0-9a-f]{64}")
_WEIGHTS = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5", ".keras", ".pkl", ".pickle",
     ".joblib", ".skops", ".nemo", ".mlmodel", ".tflite", ".llamafile", ".pmml", ".pb", ".parquet", ".arrow",
     ".msgpack", ".npz", ".dill", ".jit"}
)  # fmt: skip
_SINGLE = frozenset(
    {".gguf", ".onnx", ".safetensors", ".pt", ".pth", ".ckpt", ".keras", ".h5", ".hdf5", ".pkl", ".pickle",
     ".joblib", ".dill", ".skops", ".nemo", ".mlmodel", ".tflite", ".llamafile", ".pmml", ".jit",
     ".torchscript", ".sav", ".bin", ".model", ".npz"}
)  # fmt: skip
_WEAK = frozenset({".bin", ".model", ".h5", ".hdf5", ".npz"})
"""Names under which other things are kept as well: a model only where its content says so."""
_SAYS_NOTHING = frozenset(
    {"model", "pytorch_model", "tf_model", "adapter_model", "weights", "best", "last", "final", "checkpoint",
     "model_optimized"}
)  # fmt: skip
_MODEL_FORMATS = frozenset(
    {"torch", "torchscript", "torch legacy", "torch tar", "pickle", "keras", "safetensors", "gguf", "onnx",
     "llamafile", "program", "object array", "joblib objects"}
)  # fmt: skip
_CONFIGS = frozenset(
    {"config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json",
     "generation_config.json", "chat_template.json", "adapter_config.json", "model_index.json", "params.json",
     "hyperparams.yaml", "model_config.yaml", "configuration.json"}
)  # fmt: skip
_TUNED = ("trainer_state.json", "training_args.bin")
_LICENSE_NAMES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "License.txt", "USE_POLICY.md")
_REMOTE = re.compile(
    r"url\s*=\s*(?:https://huggingface\.co/|git@hf\.co:)([\w.-]+/[\w.-]+?)(?:\.git)?/?\s*$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class _Hashing:
    """What was found and waits for its digests: meanwhile the walk goes on, so that no core is idle."""

    seen: Folder
    make: Callable[[Folder], Found]
    folder: Path
    weights: tuple[Path, ...]
    digests: Sequence[Future[tuple[Path, str | Unreadable]]]


@dataclass(slots=True)
class Walk:
    """One path while it is looked through; runs in a thread.

    Attributes:
        hasher: None when weights are not hashed; names of the hub's cache still tell digests.
    """

    disk: Disk
    scope: Scope
    stop: threading.Event
    hasher: Hasher | None
    scans: bool = True
    limits: Limits = field(default_factory=Limits)
    named: set[str] = field(default_factory=set)
    _found: list[Found] = field(default_factory=list)
    _waiting: deque[_Hashing] = field(default_factory=deque)

    def run(self, start: Path) -> None:
        """Look through everything below. What cannot be read is told to the scope.

        Raises:
            HarvestClosed, EntriesLimitReached: the run is over, or full.
        """
        pending, folders = [start], 0
        while pending and not self.stop.is_set():
            folder = pending.pop()
            folders += 1
            if folders > FOLDERS_LIMIT:
                self.scope.fail(str(start), f"stopped at {FOLDERS_LIMIT} folders")
                break
            try:
                listing = self.disk.listing(folder)
                pending += reversed([folder / name for name in self._look(folder, listing)])
            except Unreadable as why:
                self._failed(why)
        if self.stop.is_set():
            self.scope.fail(str(start), "the run was ended")
            return
        while self._waiting:
            self._settle(self._waiting.popleft())
        self._deliver()

    def _failed(self, why: Unreadable) -> None:
        where = str(why.path)
        self.scope.fail(where if _is_text(where) else ascii(where), why.why)

    def _noted(self, where: Path, why: str) -> None:
        """Something that is there and makes no sense: told, but the listing is whole."""
        self.scope.harvest.fail(str(where), why)

    # -- which kind of folder

    def _look(self, folder: Path, listing: Listing) -> Sequence[str]:
        """Report what the folder is; returns the folders below that are to be looked at."""
        if not _is_text(str(folder)):
            raise Unreadable(folder, "the folder's name is not UTF-8", lasting=True)
        if listing.truncated:
            self.scope.fail(
                str(folder), f"holds more than {len(listing.files) + len(listing.folders)} entries: not all were read"
            )
        names = frozenset(listing.files)
        cached = mapping.cached_repository(folder)
        if cached and "snapshots" in listing.folders:
            self._cache(folder, *cached)
            return ()
        if {"manifests", "blobs"} <= set(listing.folders) and ollama.is_store(self.disk, folder):
            for found in ollama.models(self.disk, folder, self._failed):
                self._add(found)
            return ()
        if "model_index.json" in names:
            self._model(folder, listing, below=listing.folders)
            return ()
        config = self._config(folder, names)
        if config or names & {"adapter_config.json", "modules.json", "config_sentence_transformers.json"}:
            if "adapter_config.json" in names or config or self._has_weights(names):
                inside = self._parts(folder, listing, names)
                self._model(folder, listing, config=config, below=inside)
                return [name for name in listing.folders if name not in inside]
            return listing.folders
        if "saved_model.pb" in names or folder.suffix == ".mlpackage":
            self._model(folder, listing, below=("variables", "assets", "assets.extra", "Data"))
            return ()
        if names & {"dataset_info.json", "dataset_infos.json", "dataset_dict.json"} or self._is_dataset(folder, names):
            self._dataset(folder, listing)
            return ()
        self._singles(folder, listing)
        return listing.folders

    @staticmethod
    def _has_weights(names: frozenset[str]) -> bool:
        return any(_suffix(name) in _WEIGHTS for name in names)

    def _parts(self, folder: Path, listing: Listing, names: frozenset[str]) -> tuple[str, ...]:
        """Folders that belong to a model rather than hold another one: sentence-transformers' modules, ONNX forms."""
        modules = {f"{number}_" for number in range(10)} if "modules.json" in names else set()
        return tuple(
            name
            for name in listing.folders
            if name
            in ("onnx", "openvino", "coreml", "original", "assets", "tokenizer", "additional_chat_templates", "gguf")
            or name[:2] in modules
        )

    def _config(self, folder: Path, names: frozenset[str]) -> Document | None:
        if "config.json" not in names:
            return None
        path = folder / "config.json"
        try:
            values, text = self.disk.json(path)
        except Unreadable as why:
            # Many tools keep a config.json that is none of ours; beside weights it should have been a model's.
            if self._has_weights(names):
                self._failed(why)
            return None
        if isinstance(values, dict) and ("model_type" in values or "architectures" in values):
            return document(str(path), values, text)
        return None

    def _is_dataset(self, folder: Path, names: frozenset[str]) -> bool:
        if "README.md" not in names or not any(
            _suffix(name) in (".parquet", ".arrow", ".jsonl", ".csv") for name in names
        ):
            return False
        card = self._read_card(folder / "README.md", quiet=True)
        return card is not None and card.is_dataset

    # -- the hub's cache

    def _cache(self, folder: Path, kind: str, repository: str) -> None:
        refs: dict[str, list[str]] = {}
        for name in ("main", *self._names(folder / "refs")):
            try:
                commit = self.disk.text(folder / "refs" / name, 100).strip()
            except Unreadable:
                continue
            if name not in refs.setdefault(commit, []):
                refs[commit].append(name)
        snapshots = self.disk.listing(folder / "snapshots").folders
        main = next((commit for commit, names in refs.items() if "main" in names), None)
        for revision in snapshots:
            if self.stop.is_set():
                return
            snapshot = folder / "snapshots" / revision
            try:
                listing = self.disk.listing(snapshot)
                current = revision == main or len(snapshots) == 1
                known = {
                    "repository": repository,
                    "revision": revision,
                    "current": current,
                    "refs": tuple(refs.get(revision, ())),
                }
                if kind == "datasets":
                    self._dataset(snapshot, listing, **known)
                elif listing.files or listing.folders:
                    config = self._config(snapshot, frozenset(listing.files))
                    self._model(snapshot, listing, config=config, below=listing.folders, **known)
            except Unreadable as why:
                self._failed(why)

    def _names(self, folder: Path) -> tuple[str, ...]:
        try:
            return tuple(name for name in self.disk.listing(folder).files if name != "main")[:100]
        except Unreadable:
            return ()

    # -- a model, a dataset, single files

    def _model(
        self, folder: Path, listing: Listing, *, config: Document | None = None, below: Sequence[str] = (), **known: Any
    ) -> None:
        names = frozenset(listing.files)
        paths = list(self._files(folder, listing, below))
        card = self._read_card(folder / "README.md") if "README.md" in names else None
        seen = Folder(
            path=str(folder),
            name=folder.name,
            config=config,
            adapter=self._document(folder, names, "adapter_config.json"),
            pipeline=self._document(folder, names, "model_index.json"),
            card=card,
            card_path=str(folder / "README.md"),
            license_file=None if card and card.license else self._license(folder, names),
            sentence_transformers=next(
                (str(folder / name) for name in ("modules.json", "config_sentence_transformers.json") if name in names),
                None,
            ),
            tuned=next((str(folder / name) for name in _TUNED if name in names), None),
            **{"repository": self._clone_of(folder), **known},
            **self._contents(self._wanted(paths, config)),
        )
        self._report(seen, mapping.model, folder, paths)
        self._name_others(seen)

    def _dataset(self, folder: Path, listing: Listing, **known: Any) -> None:
        names = frozenset(listing.files)
        paths = list(self._files(folder, listing, listing.folders))
        seen = Folder(
            path=str(folder),
            name=folder.name,
            card=self._read_card(folder / "README.md") if "README.md" in names else None,
            card_path=str(folder / "README.md"),
            dataset_info=self._document(folder, names, "dataset_info.json"),
            license_file=self._license(folder, names),
            **{"repository": None, **known},
            **self._contents(
                [path for path in paths if path.suffix in (".py", ".pkl", ".pt", ".npy", ".npz", ".joblib")]
            ),
        )
        self._report(seen, mapping.dataset, folder, paths)

    def _singles(self, folder: Path, listing: Listing) -> None:
        """Files that are models by themselves, parts of one together."""
        groups: dict[str, list[Path]] = {}
        for name in listing.files:
            if _suffix(name) in _SINGLE and _is_text(name):
                groups.setdefault(mapping.shard_group(name), []).append(folder / name)
        if len(groups) > SINGLES_LIMIT:
            self._noted(
                folder, f"holds {len(groups)} model files; they are taken as one asset, and {SCANNED_LIMIT} scanned"
            )
            self._single(folder, folder.name, [path for paths in groups.values() for path in paths])
            return
        for name, paths in groups.items():
            if self.stop.is_set():
                return
            stem = name.rpartition(".")[0] or name
            called = f"{folder.name}/{stem}" if stem.lower() in _SAYS_NOTHING else stem
            self._single(paths[0] if len(paths) == 1 else folder / name, called, paths)

    def _single(self, path: Path, name: str, paths: list[Path]) -> None:
        contents = self._contents(paths)
        reports: tuple[tuple[str, Report], ...] = contents["reports"]
        if reports and all(report.formats == ["empty"] for _, report in reports):
            return
        if self.scans and all(_suffix(one.name) in _WEAK for one in paths):
            formats = {one for _, report in reports for one in report.formats}
            worst = max((report.verdict for _, report in reports), default=Verdict.CLEAN)
            if not formats & _MODEL_FORMATS and worst is not Verdict.UNSAFE:
                return
        elif not self.scans and all(_suffix(one.name) in _WEAK for one in paths):
            return
        seen = Folder(path=str(path), name=name, **contents)
        self._report(seen, mapping.model, path.parent, paths)
        self._name_others(seen)

    def _report(self, seen: Folder, make: Callable[[Folder], Found], folder: Path, paths: Sequence[Path]) -> None:
        weights = tuple(path for path in paths if _suffix(path.name) in _WEIGHTS)
        if len(weights) > DIGESTS_LIMIT:
            self._noted(folder, f"holds {len(weights)} files of weights: digests of {DIGESTS_LIMIT} are kept")
            weights = weights[:DIGESTS_LIMIT]
        begun = self.hasher.begin(weights) if self.hasher is not None else ()
        self._waiting.append(_Hashing(seen, make, folder, weights, begun))
        while len(self._waiting) > (WAITING if self.hasher else 0):
            self._settle(self._waiting.popleft())

    def _settle(self, waiting: _Hashing) -> None:
        seen = waiting.seen
        unread = list(seen.unread)
        digests, mismatches = self._digests(waiting, unread)
        seen = replace(seen, digests=digests, mismatches=mismatches, unread=tuple(unread))
        self._add(waiting.make(seen))

    def _add(self, found: Found) -> None:
        self._found.append(found)
        if len(self._found) >= HANDED_OVER:
            self._deliver()

    def _deliver(self) -> None:
        """Hand over what was found, many at once: each time two threads wait for one another."""
        found, self._found = self._found, []
        if self.scope.closed:
            raise HarvestClosed
        if found:
            asyncio.run_coroutine_threadsafe(self._add_all(found), self.scope.harvest.loop).result()

    async def _add_all(self, found: Sequence[Found]) -> None:
        for one in found:
            await self.scope.add(one)

    def _name_others(self, seen: Folder) -> None:
        """Bases and datasets that it names become nodes, so that the graph has what it descends from."""
        if seen.adapter and (base := seen.adapter.text("base_model_name_or_path")):
            self._name(base, seen.adapter.at("base_model_name_or_path"), mapping.named_model)
        if seen.card:
            for base in seen.card.base_models:
                self._name(base, seen.card_path, mapping.named_model)
            for data in seen.card.datasets:
                self._name(data, seen.card_path, mapping.named_dataset)

    def _name(self, name: str, stated_at: str, make: Callable[[str, str], Found]) -> None:
        if mapping.REPOSITORY_ID.fullmatch(name):
            found = make(name, stated_at)
            if found.locator not in self.named:
                self.named.add(found.locator)
                self._add(found)

    # -- what is in a folder

    def _files(self, folder: Path, listing: Listing, below: Sequence[str]) -> Iterator[Path]:
        """Files of the folder and of those below that belong to it, at most as many as are scanned."""
        pending: list[tuple[Path, Sequence[str], Sequence[str]]] = [(folder, listing.files, below)]
        count = depth = 0
        while pending:
            at, files, folders = pending.pop()
            depth += 1
            for name in files:
                if not _is_text(name):
                    self.scope.fail(ascii(str(at / name)), "the file's name is not UTF-8")
                    continue
                count += 1
                if count > SCANNED_LIMIT or depth > SCANNED_LIMIT:
                    self._noted(folder, f"holds more than {SCANNED_LIMIT} files: not all were looked at")
                    return
                yield at / name
            for name in folders:
                try:
                    inner = self.disk.listing(at / name)
                except Unreadable as why:
                    if (at / name).exists():
                        self._failed(why)
                    continue
                pending.append((at / name, inner.files, inner.folders))

    def _wanted(self, paths: Sequence[Path], config: Document | None) -> list[Path]:
        """Files that are scanned: whatever is loaded, and code only where something asks for it."""
        code = config is not None and bool(config.values.get("auto_map"))
        return [
            path
            for path in paths
            if path.name in _CONFIGS
            or path.suffix.lower() in (".jinja", ".jinja2")
            or (path.suffix.lower() in MODEL_SUFFIXES and not path.name.endswith(".index.json"))
            or (code and path.suffix == ".py")
        ]

    def _contents(self, wanted: Sequence[Path]) -> dict[str, Any]:
        reports: list[tuple[str, Report]] = []
        unread: list[tuple[str, str]] = []
        for path in wanted if self.scans else ():
            try:
                with self.disk.opened(path) as (file, status):
                    report = scan(file, path.name, status.st_size, self.limits, self.stop.is_set)
            except Stopped:
                break
            except Unreadable as why:
                self._unread(why, unread)
                continue
            except OSError as error:
                self._unread(Unreadable(path, error.strerror or "cannot be read", lasting=False), unread)
                continue
            if report.verdict is not Verdict.CLEAN or report.facts or report.formats:
                reports.append((str(path), report))
        return {"reports": tuple(reports), "unread": tuple(unread)}

    def _unread(self, why: Unreadable, unread: list[tuple[str, str]]) -> None:
        unread.append((str(why.path), why.why))
        if why.lasting:
            self._noted(why.path, why.why)
        else:
            self._failed(why)

    def _digests(self, waiting: _Hashing, unread: list[tuple[str, str]]) -> tuple[tuple[Digest, ...], tuple[str, ...]]:
        """SHA-256 of weights: blobs of the hub's cache are named by it; others, and those to verify, are hashed."""
        named: dict[Path, str] = {}
        for path in waiting.weights:
            if path.is_symlink():
                try:
                    target = self.disk.resolved(path)
                except Unreadable:
                    continue
                if target.parent.name == "blobs" and _BLOB.fullmatch(target.name):
                    named[path] = target.name
        mismatches: list[str] = []
        for future in waiting.digests:
            path, digest = future.result()
            if isinstance(digest, Unreadable):
                if not any(known == str(path) for known, _ in unread):
                    self._unread(digest, unread)
                continue
            if named.get(path, digest) != digest:
                mismatches.append(str(path))
            named[path] = digest
        made = tuple(
            Digest(str(path.relative_to(waiting.folder)), "sha256", named[path])
            for path in waiting.weights
            if path in named
        )
        return made, tuple(mismatches)

    def _document(self, folder: Path, names: frozenset[str], name: str) -> Document | None:
        if name not in names:
            return None
        try:
            values, text = self.disk.json(folder / name)
        except Unreadable as why:
            (self._noted(why.path, why.why) if why.lasting else self._failed(why))
            return None
        return document(str(folder / name), values, text) if isinstance(values, dict) else None

    def _read_card(self, path: Path, *, quiet: bool = False) -> Card | None:
        try:
            return read_card(self.disk.text(path, CARD_LIMIT, whole=False))
        except CardRefused as refusal:
            if not quiet:
                self._noted(path, str(refusal))
        except Unreadable as why:
            if not quiet:
                (self._noted(why.path, why.why) if why.lasting else self._failed(why))
        return None

    def _license(self, folder: Path, names: frozenset[str]) -> tuple[str, str] | None:
        for name in _LICENSE_NAMES:
            if name in names:
                try:
                    text = self.disk.text(folder / name, 16_384, whole=False)
                except Unreadable:
                    continue
                if known := license_of(text):
                    return str(folder / name), known
        return None

    def _clone_of(self, folder: Path) -> str | None:
        """The hub's repository that a folder is a clone of."""
        try:
            text = self.disk.text(folder / ".git" / "config", 16_384, whole=False)
        except Unreadable:
            return None
        match = _REMOTE.search(text)
        return match[1] if match else None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _suffix(name: str) -> str:
    return "." + name.rpartition(".")[2].lower() if "." in name else ""
