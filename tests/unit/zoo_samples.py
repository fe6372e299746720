"""Small but real entries for the zoo's tests; also run as a program by the tests that need a process of their own."""

from __future__ import annotations

import json
import struct
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from adapters_xling import spec
from adapters_xling.spec import (
    BackboneId,
    Fresh,
    Imported,
    MethodSpec,
    Recipe,
    RunSpec,
    Score,
    Slot,
    Stack,
    TaskRef,
    Use,
    Warm,
)
from adapters_xling.zoo import Draft, Entry, Facts, HeadCard, Measured, Probe, Training, Zoo
from adapters_xling.zoo.attestations import Attestation, attest

RECIPE = Recipe(
    learning_rate=1e-4,
    batch_size=8,
    epochs=1,
    max_steps=0,
    max_length=64,
    accumulate=1,
    warmup=0.1,
    weight_decay=0.0,
    adam_epsilon=1e-8,
    clip_norm=1.0,
    dropout=0.1,
    precision="fp32",
    eval_every_steps=10,
    patience=0,
    dev_examples=0,
    max_train_examples=0,
    pooling="first",
    carry="none",
)


def a_run(
    task: str = "mini-nli", *, seed: int = 0, method: str = "lora", warm: str | None = None, under: str | None = None
) -> RunSpec:
    return RunSpec(
        backbone=BackboneId(name="xlmr-nano", repo="xlmr-nano", revision=None, digest="a" * 64),
        tasks=(TaskRef(name=task, digest="b" * 64),),
        method=MethodSpec(name=method, settings={"r": 8, "alpha": 16.0}),
        recipe=RECIPE,
        init=Warm(entry=warm) if warm else Fresh(),
        route=Stack(parts=(Use(entry=under), Slot())) if under else Slot(),
        seed=seed,
    )


def a_score(key: str, language: str = "sw", value: float = 61.5, **changes: Any) -> Score:
    fields: dict[str, Any] = {
        "key": key,
        "task": "mini-nli",
        "language": language,
        "metric": "accuracy",
        "value": value,
        "num_examples": 300,
        "split": "test",
        "zero_shot": language != "en",
        "backbone": "xlmr-nano",
        "method": "lora",
        "init": "fresh",
        "route": "slot",
        "intermediate": "none",
        "seed": 0,
    }
    return Score(**{**fields, **changes})


def sealed(entry: Entry, *languages: str, value: float = 61.5, created: str | None = None) -> list[Attestation]:
    """Attested scores of an entry in some languages."""
    rows = {"kept": 300, "dropped": {}, "source": "files /home/ada/rows.tsv"}
    made = Measured.now()
    made = msgspec.structs.replace(made, created=created or made.created)
    return [
        attest(entry.card, a_score(entry.key, code, value), identity="i", scoring="s", rows=rows, made=made)
        for code in languages
    ]


def some_facts(**changes: Any) -> Facts:
    facts = {
        "backbone_fingerprint": "c" * 64,
        "heads": {"mini-nli": HeadCard(kind="sentence", labels=("yes", "maybe", "no"), task="mini-nli")},
        "probe": Probe(
            task="mini-nli",
            inputs=({"input_ids": [0, 5, 2]}, {"input_ids": [0, 7, 9, 2]}),
            outputs=[[0.1, -0.2, 0.3], [1.5, 0.0, -2.25]],
            tolerance=1e-4,
        ),
        "training": Training(
            steps=20,
            best_step=10,
            seconds=1.5,
            tokens=1000,
            examples=80,
            metric="accuracy",
            dev_score=81.25,
            chance=33.3,
            converged=True,
            dev_curve=((10, 81.25), (20, 80.0)),
            losses=((1, 1.1), (2, 0.9)),
        ),
        "num_trainable": 2,
        "num_parameters": 100,
        "data": {"mini-nli/train/en": {"kept": 80, "dropped": {"empty": 1}, "source": "generator"}},
        "licence": "Apache-2.0",
    }
    return Facts(**{**facts, **changes})


def tensors(num_floats: int = 2, fill: bytes = b"\0", *, note: str = "") -> bytes:
    """Bytes of a sound safetensors file with one tensor."""
    span = [0, 4 * num_floats]
    header = {"__metadata__": {"note": note}, "w": {"dtype": "F32", "shape": [num_floats], "data_offsets": span}}
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + fill * (4 * num_floats)


def fill(draft: Draft, *, byte: bytes = b"\0") -> None:
    (draft.folder / "adapter").mkdir()
    (draft.folder / "adapter" / "model.safetensors").write_bytes(tensors(fill=byte))
    (draft.folder / "heads.safetensors").write_bytes(tensors(3, byte))
    (draft.folder / "adapter_config.json").write_text('{"r": 8}\n')


def an_entry(zoo: Zoo, run: RunSpec | None = None, **changes: Any) -> Entry:
    with zoo.writing(run or a_run()) as draft:
        fill(draft)
        draft.finish(some_facts(**changes))
    assert draft.entry is not None
    return draft.entry


def an_imported(zoo: Zoo, task: str = "unlisted") -> Entry:
    """An entry as `xling import` makes it: no head, no probe, nothing known of its training."""
    init = Imported(source="hf://somebody/their-lora@0123", digest="d" * 64)
    method = MethodSpec(name="lora", settings={"r": 4, "alpha": 8.0, "targets": ("query", "value")})
    run = msgspec.structs.replace(a_run(task), init=init, method=method)
    notes = "Imported from hf://somebody/their-lora@0123. Its training data, recipe, seed and scores are unknown."
    return an_entry(zoo, run, heads={}, probe=None, training=None, data={}, licence="unknown", notes=notes)


def reseal(plain: dict[str, Any]) -> bytes:
    """Bytes of a card with a seal that fits, as somebody who knows the format would forge it."""
    body = {name: value for name, value in plain.items() if name != "seal"}
    return json.dumps({**body, "seal": spec.digest(body)}).encode()


def say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(root: str, what: str, *rest: str) -> None:
    """`hang` inside a draft until killed, or `race` another process for one key, or `save` a large entry."""
    zoo = Zoo(Path(root), fallbacks=())
    if what == "hang":
        with zoo.writing(a_run()) as draft:
            fill(draft)
            say(draft.folder)
            time.sleep(60)
    elif what == "race":
        byte, go = rest
        with zoo.writing(a_run()) as draft:
            fill(draft, byte=byte.encode())
            draft.finish(some_facts())
            say("ready")
            while not Path(go).exists():
                time.sleep(0.001)
        assert draft.entry is not None
        say(draft.entry.card.files["heads.safetensors"].sha256)
    else:
        import numpy as np
        from safetensors.numpy import save_file

        with zoo.writing(a_run()) as draft:
            save_file({"w": np.zeros(int(rest[0]), dtype=np.float32)}, draft.folder / "model.safetensors")
            draft.finish(some_facts())


if __name__ == "__main__":
    main(*sys.argv[1:])
