"""Real text: unpacking, dropping lines equal to evaluation rows, token ids of many lines.

A data folder holds ``pretrain.tar.xz`` (mono/<language>.txt, parallel/{ntrex,tico19}/<language>.txt),
``parallel-more.tar.xz`` (bible/<language>.txt, tatoeba/<language>.tsv) and ``xtreme/`` with the evaluation rows.
"""

from __future__ import annotations

import hashlib
import json
import random
import tarfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

HOLDOUT = {"ntrex": 1697, "tico19": 1800}
REAL_TOKENS = 88
Encode = Callable[[list[str]], list[list[int]]]


def key(text: str) -> str:
    """Letters, marks and digits of a text after NFKC and case folding."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LM" or unicodedata.category(c) == "Nd")


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from _strings(v)
    elif isinstance(value, list):
        for v in value:
            yield from _strings(v)


def evaluation_keys(folder: Path) -> set[bytes]:
    """Digests of every text of the evaluation sets, for dropping equal training lines."""
    keys: set[bytes] = set()

    def add(text: str) -> None:
        k = key(text)
        if k:
            keys.add(hashlib.blake2b(k.encode(), digest_size=8).digest())

    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".json" and text.lstrip()[:1] in "{[" and "\n{" not in text.strip():
            for s in _strings(json.loads(text)):
                add(s)
        elif path.suffix in (".json", ".jsonl"):
            for line in text.splitlines():
                if line.strip():
                    for s in _strings(json.loads(line)):
                        add(s)
        elif path.parent.name in ("panx", "udpos"):
            for block in text.split("\n\n"):
                add(" ".join(line.split("\t")[0] for line in block.splitlines()))
        else:
            for line in text.splitlines():
                add(line)
                for part in line.split("\t"):
                    add(part)
    return keys


def unpack(data_dir: Path, work: Path) -> tuple[Path, set[bytes]]:
    """Extracts the archives of ``data_dir`` once into the work folder; also returns the evaluation digests."""
    real = work / "real"
    if not (real / "done").exists():
        real.mkdir(parents=True, exist_ok=True)
        for name in ("pretrain.tar.xz", "parallel-more.tar.xz"):
            with tarfile.open(Path(data_dir) / name) as archive:
                archive.extractall(real, filter="data")
        (real / "done").touch()
    stored = work / "evaluation-keys.npy"
    if not stored.exists():
        keys = evaluation_keys(Path(data_dir) / "xtreme")
        np.save(stored, np.frombuffer(b"".join(sorted(keys)), dtype=np.uint64))
    return real, {v.tobytes() for v in np.load(stored)}


class Lines:
    """Token ids of many lines in one flat array."""

    def __init__(self, rows: Iterable[list[int]]) -> None:
        arrays = [np.asarray(r, dtype=np.int32) for r in rows]
        self.ends = np.cumsum([0, *map(len, arrays)])
        self.flat = np.concatenate([*arrays, np.zeros(0, np.int32)])

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.flat[self.ends[i] : self.ends[i + 1]]

    @classmethod
    def of(cls, ends: np.ndarray, flat: np.ndarray) -> Lines:
        """From stored arrays."""
        lines = cls([])
        lines.ends, lines.flat = ends, flat
        return lines


class RealText:
    """All lines as token ids: ``mono`` by language, ``aligned`` by group and language, ``dropped`` lines counted."""

    def __init__(self) -> None:
        self.mono: dict[str, Lines] = {}
        self.aligned: dict[str, dict[str, Lines]] = {}
        self.dropped = 0

    @classmethod
    def read(
        cls, folder: Path, held: set[bytes], stored: Path, encode: Encode, per_language: int, seed: int
    ) -> RealText:
        """Encodes the unpacked ``folder`` once; later calls read ``stored``."""
        text = cls()
        if stored.exists():
            text._load(stored)
            return text

        def keep(line: str) -> bool:
            k = key(line)
            equal = bool(k) and hashlib.blake2b(k.encode(), digest_size=8).digest() in held
            text.dropped += equal
            return not equal

        rng = random.Random(seed)
        for path in sorted((folder / "mono").glob("*.txt")):
            lines = [line for line in path.read_text(encoding="utf-8").split("\n") if len(line) > 8]
            lines = [line for line in rng.sample(lines, min(len(lines), per_language)) if keep(line)]
            text.mono[path.stem] = Lines(ids[:REAL_TOKENS] for ids in encode(lines))
        for group in ("ntrex", "tico19", "bible"):
            base = folder / ("bible" if group == "bible" else f"parallel/{group}")
            table = {}
            for path in sorted(base.glob("*.txt")):
                lines = path.read_text(encoding="utf-8").split("\n")[:: 3 if group == "bible" else 1]
                ids = encode(lines)
                table[path.stem] = Lines(i[:REAL_TOKENS] if keep(s) else [] for i, s in zip(ids, lines, strict=True))
            text.aligned[group] = table
        for path in sorted((folder / "tatoeba").glob("*.tsv")):
            lines = path.read_text(encoding="utf-8").split("\n")
            pairs = [line.split("\t")[:2] for line in lines if "\t" in line][:3000]
            pairs = [p for p in pairs if keep(p[0]) and keep(p[1])]
            text.aligned[f"tatoeba-{path.stem}"] = {
                language: Lines(ids[:REAL_TOKENS] for ids in encode([p[side] for p in pairs]))
                for side, language in enumerate(("en", path.stem))
            }
        text._save(stored)
        return text

    def _save(self, stored: Path) -> None:
        arrays = {"dropped": np.asarray(self.dropped)}
        for group, table in {"mono": self.mono, **self.aligned}.items():
            for language, lines in table.items():
                arrays[f"{group}/{language}/ends"], arrays[f"{group}/{language}/flat"] = lines.ends, lines.flat
        temporary = stored.with_name("tmp-" + stored.name)
        np.savez(temporary, **arrays)
        temporary.replace(stored)

    def _load(self, stored: Path) -> None:
        with np.load(stored) as arrays:
            self.dropped = int(arrays["dropped"])
            for name in arrays.files:
                if name.endswith("/ends"):
                    group, language, _ = name.split("/")
                    lines = Lines.of(arrays[name], arrays[name[:-4] + "flat"])
                    (self.mono if group == "mono" else self.aligned.setdefault(group, {}))[language] = lines
