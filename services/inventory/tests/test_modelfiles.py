"""Model files: hostile ones are never clean, none is loaded, memory stays bounded; ordinary ones are clean."""

from __future__ import annotations

import io
import pickletools
import random
import subprocess
import sys
from pathlib import Path

import pytest

from services.inventory.modelfiles import Limits, Report, Stopped, Verdict, scan
from services.inventory.modelfiles.names import judge
from services.inventory.modelfiles.opcodes import OPERATIONS
from services.inventory.tests.benign_models import TEMPLATE, benign, deflated
from services.inventory.tests.hostile_archives import torch_archive
from services.inventory.tests.hostile_models import HOSTILE, gguf, safetensors
from services.inventory.tests.hostile_pickles import Sample, call, system

BENIGN = dict(benign())


def judged(content: bytes, name: str, limits: Limits | None = None) -> Report:
    return scan(io.BytesIO(content), name, len(content), limits)


def told(report: Report) -> set[str]:
    return {reason.what for reason in report.reasons}


@pytest.mark.parametrize("sample", HOSTILE, ids=lambda sample: sample.name)
def test_a_hostile_file_is_not_clean_and_not_loaded(sample: Sample, tmp_path: Path) -> None:
    marker = tmp_path / "loaded"
    report = judged(sample.build(str(marker)), sample.name)
    assert report.verdict is not Verdict.CLEAN
    assert report.reasons
    assert all(reason.where and reason.why for reason in report.reasons)
    assert not marker.exists()


def test_there_are_enough_of_them_and_most_are_unsafe() -> None:
    assert len({sample.name for sample in HOSTILE}) == len(HOSTILE) >= 60
    verdicts = [judged(sample.build("/nonexistent/marker"), sample.name).verdict for sample in HOSTILE]
    assert verdicts.count(Verdict.UNSAFE) >= 130


@pytest.mark.parametrize("name", BENIGN)
def test_an_ordinary_file_is_clean(name: str) -> None:
    report = judged(BENIGN[name], name)
    assert report.verdict is Verdict.CLEAN, report.reasons


def test_there_are_thirty_ordinary_files() -> None:
    assert len(BENIGN) >= 30


def test_every_opcode_is_known() -> None:
    theirs = {ord(opcode.code) for opcode in pickletools.opcodes}
    assert theirs - set(OPERATIONS) == {ord(".")}
    assert set(OPERATIONS) <= theirs


@pytest.mark.parametrize(
    ("module", "name", "verdict"),
    [
        ("collections", "OrderedDict", Verdict.CLEAN),
        ("torch._utils", "_rebuild_tensor_v2", Verdict.CLEAN),
        ("copy_reg", "_reconstructor", Verdict.CLEAN),
        ("sklearn.tree._classes", "DecisionTreeClassifier", Verdict.CLEAN),
        ("sklearn.tree._classes", "check_array", Verdict.SUSPICIOUS),
        ("sklearn.preprocessing._function_transformer", "FunctionTransformer", Verdict.SUSPICIOUS),
        ("collections", "namedtuple", Verdict.SUSPICIOUS),
        ("acme.layers", "Attention", Verdict.SUSPICIOUS),
        ("acme.layers", "Attention.__init__.__globals__", Verdict.UNSAFE),
        ("builtins", "exec", Verdict.UNSAFE),
        ("__builtin__", "file", Verdict.UNSAFE),
        ("numpy", "testing.run_module_suite", Verdict.UNSAFE),
        ("torch", "hub.load", Verdict.UNSAFE),
        ("torch", "FloatStorage", Verdict.CLEAN),
        ("os.path", "join", Verdict.UNSAFE),
    ],
)
def test_what_is_not_known_is_not_clean(module: str, name: str, verdict: Verdict) -> None:
    assert judge(module, name)[0] is verdict


def test_reasons_say_where() -> None:
    report = judged(torch_archive(system("/x")), "model.pt")
    (reason,) = [one for one in report.reasons if one.what == "dangerous_global"]
    assert reason.where == "model.pt/archive/data.pkl+0xe"
    assert "os.system" in reason.why
    assert report.formats == ["torch", "zip"]


def test_facts_are_read_on_the_way() -> None:
    header = {"__metadata__": {"format": "pt"}, "a": {"dtype": "F16", "shape": [3, 4], "data_offsets": [0, 24]}}
    assert judged(safetensors(header, bytes(24)), "m.safetensors").facts == {
        "format": "pt",
        "tensors": 1,
        "parameters": 12,
    }
    facts = judged(gguf(general__architecture="llama", general__license="mit"), "m.gguf").facts
    assert facts == {"architecture": "llama", "license": "mit", "tensors": 1, "parameters": 8}


def test_what_a_file_is_called_does_not_decide() -> None:
    content = system("/x")
    for name in (
        "a",
        "a.txt",
        "a.json",
        "a.safetensors",
        "a.onnx",
        "a.gguf",
        "a.png",
        "a.py",
        "a.h5",
        "a.zip",
        "a.parquet",
    ):
        assert judged(content, name).verdict is Verdict.UNSAFE, name
        assert judged(deflated(content, "b.txt"), name).verdict is Verdict.UNSAFE, name
    assert "wrong_name" in told(judged(content, "a.safetensors"))


def test_a_template_that_only_prints_is_no_attack() -> None:
    assert (
        judged(gguf(tokenizer__chat_template=TEMPLATE + "{{ '__init__ is a word' }}"), "m.gguf").verdict
        is not Verdict.CLEAN
    )
    assert judged(gguf(tokenizer__chat_template=TEMPLATE + "{# ().__class__ #}"), "m.gguf").verdict is Verdict.CLEAN


def test_what_is_not_read_to_its_end_is_not_clean() -> None:
    content = BENIGN["forest.pkl"]
    assert "limits_reached" in told(judged(content, "forest.pkl", Limits(opcodes=100)))
    assert judged(content, "forest.pkl", Limits(read_bytes=1_000)).verdict is Verdict.SUSPICIOUS
    assert judged(BENIGN["plain.pkl.gz"], "plain.pkl.gz", Limits(inflated_bytes=100)).verdict is Verdict.SUSPICIOUS
    for cut in range(1, len(content), 997):
        assert judged(content[:cut], "forest.pkl").verdict is not Verdict.CLEAN


def test_reasons_are_bounded_and_the_worst_is_told() -> None:
    names = b"".join(call("acme", f"f{number}")[2:-1] + b"0" for number in range(500))
    report = judged(b"\x80\x04" + names + system("/x")[2:], "many.pkl")
    assert (len(report.reasons), report.reasons[0].verdict) == (50, Verdict.UNSAFE)
    assert report.reasons_untold >= 450


def test_whoever_no_longer_wants_it_stops_it() -> None:
    content = BENIGN["forest.pkl"]
    with pytest.raises(Stopped):
        scan(io.BytesIO(content), "forest.pkl", len(content), stopped=lambda: True)


def test_no_bytes_whatever_raise() -> None:
    generator = random.Random(20261128)
    files = [(sample.name, sample.build("/nonexistent/marker")) for sample in HOSTILE] + list(BENIGN.items())
    for name, content in files:
        if len(content) > 100_000:
            continue
        for _ in range(12):
            mutant = bytearray(content)
            for _ in range(generator.randrange(1, 5)):
                at = generator.randrange(len(mutant) + 1)
                piece = generator.choice([b"\xff\xff\xff\xff", b"\0" * 8, generator.randbytes(4), b""])
                mutant[at : at + generator.choice([0, len(piece)])] = piece
            judged(bytes(mutant[: generator.choice([len(mutant), generator.randrange(len(mutant) + 1)])]), name)


BOUNDED = """
import io, resource, sys
from services.inventory.modelfiles import scan, Verdict
from services.inventory.tests.hostile_models import HOSTILE
wanted = set(sys.argv[2].split(","))
files = [(one.name, one.build("/nonexistent/marker")) for one in HOSTILE if one.name in wanted]
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000, used + 300_000_000))
for name, content in files:
    assert scan(io.BytesIO(content), name, len(content)).verdict is not Verdict.CLEAN, name
with open(sys.argv[1], "rb") as sparse:
    for name in ("a.pkl", "a.safetensors", "a.gguf", "a.onnx", "a.h5", "a.npy", "a.zip", "a.json", "a.tar", "a"):
        assert scan(sparse, name, 50 << 30).verdict is not Verdict.CLEAN, name
print("bounded", len(files))
"""


def test_memory_is_bounded_on_bombs_and_sparse_files(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse.bin"
    with sparse.open("wb") as file:
        file.truncate(50 << 30)
    bombs = (
        "zip_bomb.pt", "gzip_bomb.pkl.gz", "zip_overlapping.zip", "hash_bomb.pkl", "allocation.pkl", "long_length.pkl",
        "memo_bomb.pkl", "stack_bomb.pkl", "header_bomb.safetensors", "lengths.gguf", "counts.gguf", "laughs.pmml",
        "zip_in_zip.zip",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, sparse, ",".join(bombs)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == f"bounded {len(bombs)}", done.stderr
