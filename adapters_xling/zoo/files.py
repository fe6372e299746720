"""Files of an entry: which may be there, what their bytes must look like, and their digests. No torch, no pickle."""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
import time
from pathlib import Path
from typing import Any

from adapters_xling.errors import ZooError
from adapters_xling.strict import parse_json

ALLOWED = (".safetensors", ".json", ".md", ".txt", ".model")
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".npy", ".npz")
_MAX_HEADER_BYTES = 100_000_000
_SETTLED_NS = 2_000_000_000
_NUM_BITS = {
    name: int(bits)
    for bits, names in {
        "4": "F4",
        "6": "F6_E2M3 F6_E3M2",
        "8": "BOOL U8 I8 F8_E4M3 F8_E5M2 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ",
        "16": "I16 U16 F16 BF16",
        "32": "I32 U32 F32",
        "64": "I64 U64 F64 C64",
    }.items()
    for name in names.split()
}
_digests: dict[tuple[str, int, int, int, int], str] = {}


def file_digest(path: Path) -> str:
    """sha256 (64 hex characters) of a file, remembered while path, inode, size and times stay the same.

    A file changed within the last two seconds is always read anew: its time stamps could not show a second change.

    Raises:
        ZooError: when the file cannot be read.
    """
    try:
        info = path.stat()
        memo = (str(path.absolute()), info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        if memo in _digests:
            return _digests[memo]
        sha = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(2**20):
                sha.update(chunk)
    except OSError as err:
        raise ZooError(f"{path}: cannot be read: {err.strerror or err}") from err
    if time.time_ns() - max(info.st_mtime_ns, info.st_ctime_ns) > _SETTLED_NS:
        _digests[memo] = sha.hexdigest()
    return sha.hexdigest()


def walk(folder: Path) -> tuple[list[str], list[str]]:
    """Relative POSIX paths of all regular files below a folder, and problems: symbolic links and special files.

    Links are reported and never followed.
    """
    names: list[str] = []
    problems: list[str] = []
    pending = [folder]
    while pending:
        try:
            children = sorted(pending.pop().iterdir())
        except OSError as err:
            problems.append(f"{err.filename}: cannot be listed: {err.strerror}")
            continue
        for path in children:
            name = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                problems.append(f"{name}: is a symbolic link; an entry holds files of its own only")
            elif stat.S_ISDIR(mode):
                pending.append(path)
            elif stat.S_ISREG(mode):
                names.append(name)
            else:
                problems.append(f"{name}: is neither a file nor a folder")
    return sorted(names), problems


def refuse(path: Path) -> str | None:
    """Say why a file may not be part of an entry (by its name, then by its first bytes), or None."""
    ending = path.suffix.lower()
    if ending in PICKLED:
        return f"{ending} files can run code when loaded (pickle); save weights as .safetensors"
    if ending not in ALLOWED:
        return f"ending {ending or '(none)'!r} is not allowed in an entry; valid: {', '.join(ALLOWED)}"
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except OSError as err:
        return f"cannot be read: {err.strerror or err}"
    why = safetensors_problem(path) if ending == ".safetensors" else None
    # A sound safetensors header may begin with the very bytes of a pickle (a header of 640 bytes: 80 02 …).
    if (ending != ".safetensors" or why) and (what := _archive(start)):
        return f"holds {what} although it is named {ending}; save weights as .safetensors"
    return why


def safetensors_problem(path: Path) -> str | None:
    """Say what contradicts itself in a safetensors file (header length, JSON, offsets, file size), or None.

    The format: 8 bytes little-endian header length, a JSON header, then the tensors without gaps.
    https://github.com/huggingface/safetensors#format
    """
    try:
        num_bytes = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(8)
            num_header = int.from_bytes(head, "little")
            if len(head) < 8:
                return f"truncated: {num_bytes} bytes cannot hold a safetensors header"
            if num_header > min(_MAX_HEADER_BYTES, num_bytes - 8):
                return f"not sound safetensors: announces a header of {num_header:,} bytes in a file of {num_bytes:,}"
            raw = stream.read(num_header)
    except OSError as err:
        return f"cannot be read: {err.strerror or err}"
    try:
        header = parse_json(raw)
        spans = sorted((*_span(name, tensor), name) for name, tensor in header.items() if name != "__metadata__")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as err:
        return f"not sound safetensors: unreadable header ({type(err).__name__}: {err})"
    at = 0
    for begin, end, name in spans:
        if begin != at:
            return f"not sound safetensors: tensor {name!r} begins at byte {begin}, expected {at}"
        at = end
    if 8 + num_header + at != num_bytes:
        return f"truncated or altered: its header describes {8 + num_header + at:,} bytes, the file has {num_bytes:,}"
    return None


def _span(name: str, tensor: Any) -> tuple[int, int]:
    begin, end = tensor["data_offsets"]
    num_bits = _NUM_BITS[tensor["dtype"]] * math.prod(tensor["shape"])
    if any(type(n) is not int or n < 0 for n in (begin, end, *tensor["shape"])) or 8 * (end - begin) != num_bits:
        raise ValueError(f"tensor {name!r}: offsets {begin}..{end} do not fit {tensor['dtype']} {tensor['shape']}")
    return begin, end


def _archive(start: bytes) -> str | None:
    if re.match(rb"\x80[\x02-\x05]", start):
        return "a pickle"
    if start.startswith(b"PK\x03\x04"):
        return "a zip archive (as torch.save writes)"
    if start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        return "a compressed archive"
    return None


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, links not followed; 0 for a folder that is gone."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).lstat().st_size
            except FileNotFoundError:
                continue
    return total


SIDE_FILE = "scores.jsonl"
"""What may stand beside the files a card lists; it is sealed by itself (`attestations`)."""


def compare(folder: Path, files: dict[str, Any]) -> list[str]:
    """Every difference between the files a card promises and those on disk: missing, truncated, altered, extra.

    Args:
        folder: the entry.
        files: relative path -> `FileDigest`.
    """
    present, problems = walk(folder)
    for name in sorted(set(files) - set(present)):
        if not any(problem.startswith(f"{name}:") for problem in problems):
            problems.append(f"{name}: missing, expected {files[name].num_bytes:,} bytes")
    for name in present:
        path = folder / name
        if name in ("card.json", SIDE_FILE) and name not in files:
            continue
        if name not in files:
            problems.append(f"{name}: not in the card; {refuse(path) or 'an entry holds only what its card lists'}")
            continue
        expected = files[name]
        found = path.lstat().st_size
        if found != expected.num_bytes:
            word = "truncated" if found < expected.num_bytes else "altered"
            problems.append(f"{name}: {word}: expected {expected.num_bytes:,} bytes, found {found:,}")
        elif why := refuse(path):
            problems.append(f"{name}: {why}")
        elif (sha := file_digest(path)) != expected.sha256:
            problems.append(f"{name}: altered: sha256 expected {expected.sha256}, found {sha}")
    return problems
