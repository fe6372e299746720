"""Entries whose every digest and seal fits, made to harm or mislead whoever opens them: an error of ours, always."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from worlds import NLI, OWN, PARENT, a_run, logits, method_of, new_encoder, train_entry, trained_slot, write_backbone

from adapters_xling.errors import XlingError
from adapters_xling.hub import open_hub, pull
from adapters_xling.model import open_entry
from adapters_xling.spec import canonical_json
from adapters_xling.zoo import Zoo

FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@functools.cache
def made(case: str) -> tuple[Path, Path, str, torch.Tensor]:
    """Backbone, zoo, key and logits of an entry."""
    root = Path(tempfile.mkdtemp(prefix="xling-open-"))
    backbone = write_backbone(root / "tiny")
    entry, expected = train_entry(a_run(case, backbone), Zoo(root / "zoo", fallbacks=()))
    return backbone, root / "zoo", entry.key, expected


@pytest.fixture(scope="module", autouse=True)
def tidy() -> Any:
    yield
    for case in ("lora", "pfeiffer"):
        shutil.rmtree(made(case)[0].parent, ignore_errors=True)
    made.cache_clear()


def seal_again(folder: Path) -> None:
    """Describe whatever lies in a folder, as somebody who knows the format would."""
    card = json.loads((folder / "card.json").read_bytes())
    card.pop("seal")
    for name in card["files"]:
        raw = (folder / name).read_bytes()
        card["files"][name] = {"sha256": hashlib.sha256(raw).hexdigest(), "num_bytes": len(raw)}
    card["seal"] = hashlib.sha256(canonical_json(card).encode()).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))


def card(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = json.loads((folder / "card.json").read_bytes())
        change(data)
        (folder / "card.json").write_text(json.dumps(data))

    return apply


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = next(folder.rglob(name))
        data = load_file(path)
        change(data)
        save_file(data, path, metadata={"format": "pt"})

    return apply


def config(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "encoder" / "adapter_config.json"
        data = json.loads(path.read_text())
        data.get("config", data).update(changes)
        path.write_text(json.dumps(data))

    return apply


def raw(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


def probe(**changes: Any) -> Callable[[Path], None]:
    return card(lambda plain: plain["probe"].update(changes))


def shift(state: dict[str, torch.Tensor]) -> None:
    for tensor in state.values():
        tensor += 1.0


ATTACKS: dict[str, Callable[[Path], None]] = {
    "weights of another training": tensors("adapter*.safetensors", shift),
    "weights that are not numbers": tensors(
        "adapter*.safetensors", lambda t: [x.fill_(float("nan")) for x in t.values()]
    ),
    "a weight less": tensors("adapter*.safetensors", lambda t: t.pop(sorted(t)[0])),
    "a weight more": tensors("adapter*.safetensors", lambda t: t.update(stranger=torch.zeros(2))),
    "heads of another shape": tensors("heads.safetensors", lambda t: t.update({sorted(t)[0]: torch.zeros(1)})),
    "heads of another training": tensors("heads.safetensors", shift),
    "no heads": tensors("heads.safetensors", lambda t: t.clear()),
    "a configuration named twice": raw("encoder/adapter_config.json", b'{"peft_type": "LORA", "peft_type": "LORA"}'),
    "a configuration nested beyond reason": raw("encoder/adapter_config.json", b'{"a":' * 100_000),
    "a configuration that is not UTF-8": raw("encoder/adapter_config.json", b'{"a": "\xff"}'),
    "a configuration with infinity": raw("encoder/adapter_config.json", b'{"r": Infinity}'),
    "a configuration that names a function": config(peft_type="parse_composition", architecture="parse_composition"),
    "a configuration that names a class": config(auto_mapping={"parent_library": "os", "base_model_class": "system"}),
    "a configuration of another width": config(r=1000, hidden_size=10**9),
    "a backbone of other tensors": card(lambda plain: plain.update(backbone_fingerprint="0" * 64)),
    "a head of an unknown kind": card(lambda plain: plain["heads"]["tiny-nli"].update(kind="poem")),
    "a head with other labels": card(lambda plain: plain["heads"]["tiny-nli"].update(labels=["a", "b"])),
    "a head with a name that is a path": card(lambda plain: plain.update(heads={"../x": plain["heads"]["tiny-nli"]})),
    "a head with a name of the model's own": card(
        lambda plain: plain.update(heads={"forward": plain["heads"]["tiny-nli"]})
    ),
    "a probe about no head": probe(task="stranger"),
    "a probe without token ids": probe(inputs=[{"stranger": [[0, 2]]}] * 4),
    "a probe with more inputs": probe(inputs=[{"input_ids": [[0, 2]], "inputs_embeds": [[0.5]]}] * 4),
    "a probe of flat token ids": probe(inputs=[{"input_ids": [0, 2]}] * 4),
    "a probe of no tokens": probe(inputs=[{"input_ids": [[]]}] * 4),
    "a probe of tokens that are not": probe(inputs=[{"input_ids": [[0, 10**9]]}] * 4),
    "a probe of negative tokens": probe(inputs=[{"input_ids": [[-1, 2]]}] * 4),
    "a probe of fractions": probe(inputs=[{"input_ids": [[0.5, 2]]}] * 4),
    "a probe that is too long": probe(inputs=[{"input_ids": [[5] * 100_000]}] * 4),
    "a probe with nested outputs": probe(outputs=[[[1.0]], [[1.0]], [[1.0]], [[1.0]]]),
    "a probe with numbers for outputs": probe(outputs=[1.0, 1.0, 1.0, 1.0]),
    "a probe with other outputs": probe(outputs=[[9.0, 9.0, 9.0]] * 4),
    "a probe without tolerance": probe(tolerance=-1.0),
}


@pytest.mark.parametrize("case", ["lora", "pfeiffer"])
def test_an_entry_that_was_not_tampered_with_opens(case: str, tmp_path: Path) -> None:
    backbone, zoo, key, expected = made(case)
    shutil.copytree(zoo / key, tmp_path / "shared" / key)
    seal_again(tmp_path / "shared" / key)
    pull(Zoo(tmp_path / "zoo", fallbacks=()), key, open_hub(str(tmp_path / "shared")))
    opened = open_entry(key, zoo=Zoo(tmp_path / "zoo", fallbacks=()), backbone=backbone)
    assert torch.equal(logits(opened, NLI), expected)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("case", ["lora", "pfeiffer"])
def test_what_fits_its_digests_but_not_its_word_is_refused_before_it_answers(
    case: str, attack: str, tmp_path: Path
) -> None:
    backbone, zoo, key, _ = made(case)
    shutil.copytree(zoo / key, tmp_path / "shared" / key)
    ATTACKS[attack](tmp_path / "shared" / key)
    seal_again(tmp_path / "shared" / key)
    mine = Zoo(tmp_path / "zoo", fallbacks=())
    with pytest.raises(XlingError) as caught:
        pull(mine, key, open_hub(str(tmp_path / "shared")))
        open_entry(key, zoo=mine, backbone=backbone)
    assert str(tmp_path) in str(caught.value) or key in str(caught.value), caught.value


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**12) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@FEW
@given(st.data())
@pytest.mark.parametrize("case", ["lora", "pfeiffer", "prefix"])
def test_any_value_in_a_configuration_is_either_as_good_as_the_old_or_refused(case: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected = trained_slot(case, folder)
        path = folder / "adapter_config.json"
        plain = json.loads(path.read_text())
        place = plain["config"] if "config" in plain and data.draw(st.booleans()) else plain
        field = data.draw(st.sampled_from(sorted(place)) | st.text(max_size=12))
        place[field] = data.draw(ANY)
        path.write_text(json.dumps(plain))
        encoder, method = new_encoder(), method_of(case)
        try:
            method.load(encoder, PARENT, folder)
            method.attach(new_encoder(), OWN, folder, _slot())
        except XlingError as err:
            assert str(folder) in str(err)
            return
        from worlds import output

        from adapters_xling.spec import Use

        method.activate(encoder, Use(entry=PARENT))
        assert output(encoder).shape == expected.shape


def _slot() -> Any:
    from adapters_xling.spec import Slot

    return Slot()
