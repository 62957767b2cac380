"""Hostile archives and compressed files: zips, tars, PyTorch's and joblib's forms, NumPy's, and programs.

See hostile_pickles.py for what they do when they are loaded, which is next to nothing.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable

from services.inventory.tests.hostile_pickles import (
    SAMPLES,
    Sample,
    ask4,
    call,
    command,
    gadget_p0,
    python,
    sample,
    system,
    text,
)

# -- archives


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, content in members:
            made.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def torch_archive(pickled: bytes, *more: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    return archive(
        ("archive/data.pkl", pickled), ("archive/version", b"3\n"), ("archive/data/0", b"\0" * 64), *more, method=method
    )


@sample("torch.pt", "PyTorch's archive")
def _torch(marker: str) -> bytes:
    return torch_archive(system(marker))


@sample("torch_deflated.pth", "PyTorch's archive, compressed")
def _torch_deflated(marker: str) -> bytes:
    return torch_archive(system(marker), method=zipfile.ZIP_DEFLATED)


@sample("torch_bad_crc.pt", "wrong checksums: PyTorch does not verify them, zipfile refuses")
def _bad_crc(marker: str) -> bytes:
    content = bytearray(torch_archive(system(marker)))
    central = content.index(b"PK\x01\x02")
    content[14:18] = content[central + 16 : central + 20] = b"\xde\xad\xbe\xef"
    return bytes(content)


@sample("torch_encrypted_flag.pt", "marked as encrypted, and is not")
def _encrypted(marker: str) -> bytes:
    content = bytearray(torch_archive(system(marker)))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


@sample("torch_name_mismatch.pt", "the two headers name the member differently")
def _mismatch(marker: str) -> bytes:
    content = torch_archive(system(marker))
    central = content.index(b"PK\x01\x02")
    return content[:central] + content[central:].replace(b"archive/data.pkl", b"archive/data.txt", 1)


@sample("torch_size_mismatch.pt", "the two headers state other sizes")
def _size_mismatch(marker: str) -> bytes:
    content = bytearray(torch_archive(system(marker)))
    central = content.index(b"PK\x01\x02")
    content[central + 20 : central + 28] = struct.pack("<II", 2, 2)
    return bytes(content)


@sample("torch_duplicate.pt", "two members of one name: readers differ in which they take")
def _duplicate(marker: str) -> bytes:
    content = torch_archive(system(marker), ("archive/data.pkX", pickle.dumps({})))
    return content.replace(b"archive/data.pkX", b"archive/data.pkl")


@sample("torch_renamed.pt", "the pickle has a name that scanners pass over")
def _renamed(marker: str) -> bytes:
    return torch_archive(pickle.dumps({}), ("archive/readme.md", system(marker)))


@sample("torch_in_storage.pt", "a pickle where raw numbers belong")
def _in_storage(marker: str) -> bytes:
    return torch_archive(pickle.dumps({}), ("archive/data/1", system(marker)))


@sample("zip_behind_pickle.pt", "a pickle with an archive behind: by its end it is a harmless zip")
def _prefixed(marker: str) -> bytes:
    return system(marker) + torch_archive(pickle.dumps({}))


@sample("zip_without_directory.pt", "an archive without a directory, for lenient readers")
def _no_directory(marker: str) -> bytes:
    content = torch_archive(system(marker))
    return content[: content.index(b"PK\x01\x02")]


@sample("zip_hidden_member.pt", "a member that the directory does not list")
def _hidden(marker: str) -> bytes:
    hidden = torch_archive(system(marker))
    return hidden[: hidden.index(b"PK\x01\x02")] + torch_archive(pickle.dumps({}))


@sample("zip_traversal.zip", "a member that unpacks outside of the folder")
def _traversal(marker: str) -> bytes:
    return archive(("../../../../tmp/evil.pth", b"x"), ("a.txt", b"x"))


@sample("zip_link.zip", "a symbolic link in an archive")
def _zip_link(marker: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        link = zipfile.ZipInfo("weights.bin")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        made.writestr(link, "/etc/passwd")
    return out.getvalue()


@sample("zip_in_zip.zip", "an archive in an archive in an archive")
def _nested_zip(marker: str) -> bytes:
    return archive(
        (
            "a.dat",
            archive(
                (
                    "b.dat",
                    torch_archive(system(marker)),
                )
            ),
        )
    )


@sample("zip_lzma.pt", "a compression that few readers know")
def _zip_lzma(marker: str) -> bytes:
    return torch_archive(system(marker), method=zipfile.ZIP_LZMA)


@sample("zip_bomb.pt", "a gigabyte of zeros in a megabyte")
def _bomb(marker: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made, made.open("archive/data.pkl", "w") as member:
        member.write(b"\x80\x04")
        for _ in range(1_024):
            member.write(b"0" * (1 << 20))
    return out.getvalue()


@sample("zip_overlapping.zip", "members that share their bytes, as bombs do that are not nested")
def _overlapping(marker: str) -> bytes:
    content = archive(("a", zlib.compress(b"0" * 1_000)))
    central, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entry = content[central:end]
    tail = bytearray(content[end:])
    tail[8:12] = struct.pack("<HH", 50, 50)
    tail[12:16] = struct.pack("<I", len(entry) * 50)
    return content[:central] + entry * 50 + bytes(tail)


def _compressed(name: str, pack: Callable[[bytes], bytes]) -> None:
    SAMPLES.append(Sample(name, "a pickle, compressed as joblib does", lambda marker: pack(system(marker))))


def _lz4(content: bytes) -> bytes:
    import lz4.frame

    packed: bytes = lz4.frame.compress(content)
    return packed


for _name, _pack in (
    ("joblib_zlib.joblib", zlib.compress),
    ("joblib_gzip.pkl.gz", gzip.compress),
    ("joblib_bz2.joblib", bz2.compress),
    ("joblib_xz.joblib", lzma.compress),
    ("joblib_lzma.joblib", lambda content: lzma.compress(content, lzma.FORMAT_ALONE)),
    ("joblib_lz4.joblib", _lz4),
    ("gzip_second_stream.pkl", lambda content: gzip.compress(pickle.dumps({})) + gzip.compress(content)),
):
    _compressed(_name, _pack)


@sample("seven_zip.pt", "7z: no scanner reads it without unpacking")
def _seven_zip(marker: str) -> bytes:
    return (
        b"7z\xbc\xaf\x27\x1c\0\x04"
        + bytes(24)
        + lzma.compress(system(marker), lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}])
    )


@sample("gzip_bomb.pkl.gz", "gigabytes of zeros, compressed twice")
def _gzip_bomb(marker: str) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return (
        packer.compress(b"\x80\x04") + b"".join(packer.compress(b"0" * (1 << 20)) for _ in range(512)) + packer.flush()
    )


def tar_of(*members: tuple[str, bytes | str], kind: bytes = tarfile.SYMTYPE) -> bytes:
    """A tar; a member whose content is a text is a link there."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = kind, content
                made.addfile(info)
            else:
                info.size = len(content)
                made.addfile(info, io.BytesIO(content))
    return out.getvalue()


@sample("tar_pickle.tar", "a pickle in a tar")
def _tar(marker: str) -> bytes:
    return tar_of(("model/weights.bin", system(marker)))


@sample("tar_traversal.nemo", "a member that unpacks outside of the folder")
def _tar_traversal(marker: str) -> bytes:
    return tar_of(("../../evil.py", b"x"), ("model_config.yaml", b"a: 1\n"))


@sample("tar_link.tar", "a link out of the folder, and a file through it")
def _tar_link(marker: str) -> bytes:
    return tar_of(("cache", "/etc"), ("cache/passwd", b"x"))


@sample("tar_hard_link.tgz", "a hard link out of the folder, compressed")
def _tar_hard_link(marker: str) -> bytes:
    return gzip.compress(tar_of(("weights", "../../secret"), kind=tarfile.LNKTYPE))


@sample("hydra_target.nemo", "a configuration whose _target_ is called")
def _nemo(marker: str) -> bytes:
    return tar_of(("model_config.yaml", f"model:\n  _target_: os.system\n  command: {command(marker)}\n".encode()))


@sample("torch_tar.tar", "PyTorch's oldest form")
def _torch_tar(marker: str) -> bytes:
    return tar_of(
        ("sys_info", pickle.dumps({})),
        ("pickle", system(marker)),
        ("storages", pickle.dumps(0)),
        ("tensors", pickle.dumps(0)),
    )


MAGIC = 0x1950A86A20F9469CFC6C


def legacy(pickled: bytes, magic: bytes | None = None) -> bytes:
    return (
        (magic or pickle.dumps(MAGIC, 2))
        + pickle.dumps(1001, 2)
        + pickle.dumps({"little_endian": True}, 2)
        + pickled
        + pickle.dumps([], 2)
    )


@sample("torch_legacy.bin", "PyTorch before 1.6")
def _legacy(marker: str) -> bytes:
    return legacy(system(marker))


@sample("torch_legacy_computed_magic.bin", "the magic number is computed, so that scanners do not see it")
def _legacy_magic(marker: str) -> bytes:
    return legacy(pickle.dumps({}), call("builtins", "eval", f"{python(marker)} or {MAGIC}"))


@sample("torch_legacy_hidden.bin", "a pickle behind the last storage")
def _legacy_hidden(marker: str) -> bytes:
    return legacy(pickle.dumps({}, 2)) + system(marker)


def npy(content: bytes, kind: str = "|O") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': (1,), }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


@sample("objects.npy", "an array of objects is a pickle")
def _npy(marker: str) -> bytes:
    return npy(system(marker))


@sample("objects.npz", "the same within an archive")
def _npz(marker: str) -> bytes:
    return archive(("weights.npy", npy(b"\0" * 8, "<f8")), ("labels.npy", npy(system(marker))))


@sample("joblib_array.joblib", "the objects of joblib's array lie behind its wrapper")
def _joblib_array(marker: str) -> bytes:
    wrapper = (
        b"\x80\x04" + ask4("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81}(" + text("subclass") + ask4("numpy", "ndarray")
        + text("shape") + b"K\x01\x85" + text("order") + text("C") + text("dtype") + ask4("numpy", "dtype") + text("O8")
        + b"\x89\x88\x87R" + text("allow_mmap") + b"\x89ub"
    )  # fmt: skip
    return wrapper + system(marker) + b"."


@sample("pickle_named.safetensors", "a pickle by the name of a format that cannot run anything")
def _as_safetensors(marker: str) -> bytes:
    return system(marker)


@sample("pickle_named.gguf", "the same")
def _as_gguf(marker: str) -> bytes:
    return gadget_p0(marker)


@sample("pickle_named.txt", "a protocol 0 pickle is a text")
def _as_text(marker: str) -> bytes:
    return gadget_p0(marker)


@sample("program.bin", "a program")
def _program(marker: str) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(200)


@sample("script.pt", "a script")
def _script(marker: str) -> bytes:
    return f"#!/bin/sh\n{command(marker)}\n".encode()
