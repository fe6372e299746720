"""Tokenised examples on disk: encoded once, memory-mapped afterwards, one Features object at a time.

One safetensors file per content: token ids as one flat int32 array with offsets; labels, meta and second segments as
JSON bytes with offsets. The file's name is the digest of everything that determines it, so a file is right or absent;
the payload's CRC is checked at opening, and a file that fails is built again. Nothing is pickled.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import itertools
import json
import os
import uuid
import warnings
import weakref
import zlib
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import msgspec
import numpy as np

from adapters_xling import paths, spec
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks.encoding import Arrays, encoded
from adapters_xling.tasks.examples import Example, Features

if TYPE_CHECKING:
    from adapters_xling.tasks.kinds.base import Kind

FORMAT = 1
"""Layout of the file; raise when it changes."""

CHUNK = 2000
"""Examples that a thread encodes at a time, so that a large set never exists twice as Python objects."""

_KINDS_DIR = Path(__file__).parent / "kinds"

_DTYPES: dict[str, np.dtype[Any]] = {"I32": np.dtype("<i4"), "I64": np.dtype("<i8"), "U8": np.dtype("u1")}


class CorruptCache(Exception):
    """A cache file whose bytes are not what was written."""


class CachedFeatures(Sequence[Features]):
    """Features that are made from flat arrays when they are asked for.

    `label` and `meta` come back as JSON has them: lists for tuples, string keys.
    """

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays

    def __len__(self) -> int:
        return len(self._arrays["example"])

    @overload
    def __getitem__(self, index: int) -> Features: ...

    @overload
    def __getitem__(self, index: slice) -> list[Features]: ...

    def __getitem__(self, index: int | slice) -> Features | list[Features]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = index + len(self) if index < 0 else index
        if not 0 <= i < len(self):
            raise IndexError(f"feature {index} of {len(self)}")
        arrays = self._arrays
        first, last = arrays["feature_rows"][i : i + 2]
        borders = arrays["row_tokens"][first : last + 1]
        rows = [arrays["tokens"][a:b].tolist() for a, b in itertools.pairwise(borders)]
        a, b = arrays["feature_rest"][i : i + 2]
        label, meta, *second = json.loads(arrays["rest"][a:b].tobytes())
        return Features(int(arrays["example"][i]), rows, label, meta, *second)

    def __iter__(self) -> Iterator[Features]:
        return (self[i] for i in range(len(self)))

    @property
    def num_tokens(self) -> np.ndarray:
        """`Features.num_tokens` of every feature, without making them: what length bucketing sorts by."""
        arrays = self._arrays
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        lengths = np.diff(arrays["row_tokens"])
        starts = arrays["feature_rows"]
        return np.maximum.reduceat(lengths, starts[:-1]) * np.diff(starts)


def features(
    kind: Kind,
    examples: Sequence[Example],
    tokenizer: Any,
    task: TaskSpec,
    *,
    max_length: int,
    cache_dir: Path | None = None,
) -> Sequence[Features]:
    """Encode examples, or find them encoded.

    Args:
        kind: the task's kind.
        examples: what to encode.
        tokenizer: a tokenizer of `transformers`.
        task: whose labels and options the kind reads.
        max_length: tokens per encoder row.
        cache_dir: folder of the cache; default `paths.cache_dir()`.

    Returns:
        A lazy sequence. It is the same with and without cache: where the file cannot be written, a warning says so
        and the features stay in memory.
    """
    folder = (cache_dir or paths.cache_dir()) / "features"
    file = folder / f"{content_digest(kind, examples, tokenizer, task, max_length=max_length)}.safetensors"
    if file.is_file():
        try:
            return CachedFeatures(_open(file))
        except (CorruptCache, OSError) as err:
            warnings.warn(f"{file}: damaged cache file ({err}); it is built again")
    arrays = _encode(kind, examples, tokenizer, task, max_length)
    try:
        _write(file, arrays)
        return CachedFeatures(_open(file))
    except (OSError, CorruptCache) as err:
        warnings.warn(f"{file}: cannot be cached ({err}); going on without. XLING_CACHE names another folder")
        return CachedFeatures(arrays)


def content_digest(kind: Kind, examples: Sequence[Example], tokenizer: Any, task: TaskSpec, *, max_length: int) -> str:
    """Digest of everything that determines the features, the code of the kind included."""
    rows = hashlib.sha256()
    encoder = msgspec.json.Encoder()
    for example in examples:
        rows.update(encoder.encode(example) + b"\n")
    parts = {
        "format": FORMAT,
        "kind": kind.name,
        "code": _code_digest(type(kind)),
        "examples": rows.hexdigest(),
        "tokenizer": tokenizer_digest(tokenizer),
        "labels": task.labels,
        "options": task.options,
        "max_length": max_length,
    }
    return spec.digest(parts)


def _code_digest(cls: type) -> str:
    """Digest of the code that encodes: a changed `encode` must not meet features of the old one.

    That is every file of `tasks/kinds/`, whoever imports whom there, and files of the class and its bases elsewhere.
    """
    sources = {file.name: file for file in _KINDS_DIR.glob("*.py")}
    for base in cls.__mro__[:-1]:
        try:
            file = Path(inspect.getfile(base))
        except (TypeError, OSError):
            continue
        if file.is_file() and file.parent != _KINDS_DIR and base.__module__.partition(".")[0] != "abc":
            sources[f"{base.__module__}:{file.name}"] = file
    digest = hashlib.sha256()
    for name, file in sorted(sources.items()):
        digest.update(f"{name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


_TOKENIZERS: weakref.WeakKeyDictionary[Any, tuple[int, str]] = weakref.WeakKeyDictionary()


def tokenizer_digest(tokenizer: Any) -> str:
    """Digest of what a tokenizer does. Its truncation and padding state is left out: calls change it in passing."""
    known = _TOKENIZERS.get(tokenizer)
    if known is not None and known[0] == len(tokenizer):
        return known[1]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state = json.loads(backend.to_str())
        state.pop("truncation", None)
        state.pop("padding", None)
    else:
        state = {"vocabulary": tokenizer.get_vocab(), "special": tokenizer.special_tokens_map}
    state = {
        "class": type(tokenizer).__name__,
        "library": metadata.version("tokenizers"),
        "sides": [tokenizer.padding_side, tokenizer.truncation_side],
        "state": state,
    }
    digest = hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()
    _TOKENIZERS[tokenizer] = (len(tokenizer), digest)
    return digest


def _encode(kind: Kind, examples: Sequence[Example], tokenizer: Any, task: TaskSpec, max_length: int) -> Arrays:
    """Encode in chunks into flat arrays."""
    encode = functools.partial(kind.encode, tokenizer=tokenizer, task=task, max_length=max_length)
    return encoded(encode, examples, chunk=CHUNK, name=task.name)


def _write(file: Path, arrays: Arrays) -> None:
    """Write under a name of this process and rename: a reader sees a whole file or none."""
    names = {dtype: name for name, dtype in _DTYPES.items()}
    header: dict[str, Any] = {}
    at = crc = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": names[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
        crc = zlib.crc32(np.ascontiguousarray(array).view("u1").data, crc) if array.nbytes else crc
    header["__metadata__"] = {"format": str(FORMAT), "crc32": str(crc)}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.stem}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as handle:
            handle.write(len(head).to_bytes(8, "little") + head)
            for array in arrays.values():
                handle.write(np.ascontiguousarray(array).data if array.nbytes else b"")
            handle.flush()
            os.fsync(handle.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _open(file: Path) -> Arrays:
    """Map a cache file into memory.

    Raises:
        CorruptCache: when header, size or CRC are not what was written.
    """
    try:
        payload = np.memmap(file, dtype="u1", mode="r")
        num_head = int.from_bytes(payload[:8].tobytes(), "little")
        header = json.loads(payload[8 : 8 + num_head].tobytes())
        facts = header.pop("__metadata__")
        body = payload[8 + num_head :]
        if facts["format"] != str(FORMAT) or zlib.crc32(body.data) != int(facts["crc32"]):
            raise CorruptCache("its check sum is wrong")
        return {
            name: body[slice(*entry["data_offsets"])].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in header.items()
        }
    except (ValueError, KeyError, TypeError) as err:
        raise CorruptCache(f"{type(err).__name__}: {err}") from err
