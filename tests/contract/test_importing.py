"""Adapters that strangers made with plain libraries become entries that compute the same, or are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from worlds import NLI, a_recipe, a_run, fit, inputs, new_encoder, train_entry, write_backbone

from adapters_xling.errors import ConfigError, XlingError, ZooError
from adapters_xling.importing import HEADS, import_adapter
from adapters_xling.model import build, keep_merge, open_entry
from adapters_xling.spec import Slot, Stack, Ties, Use, Warm, WeightAverage
from adapters_xling.zoo import Zoo


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Zoo]:
    root = tmp_path_factory.mktemp("import")
    return write_backbone(root / "tiny"), Zoo(root / "zoo", fallbacks=())


def classifier() -> Any:
    """A task-model class around the tests' encoder: its encoder is called `roberta`."""
    from transformers import XLMRobertaForSequenceClassification

    made = XLMRobertaForSequenceClassification(new_encoder().config).eval()
    made.roberta.load_state_dict(new_encoder().state_dict())
    return made


def randomise(module: torch.nn.Module, mark: str) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if mark in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def a_lora(folder: Path, **settings: Any) -> torch.Tensor:
    """A plain peft folder from a task-model class; returns what its encoder computes."""
    from peft import LoraConfig, get_peft_model

    wanted = {"task_type": "SEQ_CLS", "r": 3, "lora_alpha": 5, "target_modules": ["query", "value"], **settings}
    model = get_peft_model(classifier(), LoraConfig(**wanted)).eval()
    randomise(model, "lora_")
    model.save_pretrained(folder, save_embedding_layers=False)
    with torch.no_grad():
        return model.base_model.model.roberta(**inputs()).last_hidden_state


def blocks(folder: Path, config: Any, *, inside: bool = True) -> torch.Tensor:
    """A folder of the adapters library, made on a task-model class or on the bare encoder."""
    import adapters

    model = classifier() if inside else new_encoder()
    adapters.init(model)
    model.add_adapter("sw", config=config)
    model.set_active_adapters("sw")
    randomise(model, "adapter")
    model.save_adapter(str(folder), "sw", with_head=False, use_safetensors=True)
    encoder = model.roberta if inside else model
    with torch.no_grad():
        return encoder.eval()(**inputs()).last_hidden_state


def take(folder: Path | str, world: tuple[Path, Zoo], **more: Any) -> Any:
    more = {"recipe": a_recipe(), "other_backbone": True, **more}
    return import_adapter(str(folder), zoo=world[1], backbone=str(world[0]), **more)


def computed(entry: Any, world: tuple[Path, Zoo]) -> torch.Tensor:
    with torch.no_grad():
        return open_entry(entry.key, zoo=world[1], backbone=world[0]).encoder(**inputs()).last_hidden_state


@pytest.mark.parametrize(
    "settings",
    [{}, {"target_modules": ["query", "key"], "layers_to_transform": [1]}, {"use_dora": True}, {"use_rslora": True}],
    ids=["plain", "layers", "dora", "rslora"],
)
def test_a_lora_of_plain_peft_computes_the_same(
    settings: dict[str, Any], world: tuple[Path, Zoo], tmp_path: Path
) -> None:
    expected = a_lora(tmp_path / "theirs", **settings)
    entry = take(tmp_path / "theirs", world, drop=HEADS)
    assert torch.allclose(computed(entry, world), expected, atol=1e-6)
    card = entry.card
    assert (card.licence, card.training, card.probe, card.heads) == ("unknown", None, None, {})
    assert "unknown" in card.notes and "Left behind" in card.notes and "classifier" in card.notes
    assert card.run.tasks[0].name == "unknown" and card.run.init.source == "theirs"
    assert str(tmp_path) not in (entry.folder / "card.json").read_text()
    assert take(tmp_path / "theirs", world, drop=HEADS).key == entry.key  # again: the same entry
    assert world[1].verify(entry.key) == []


@pytest.mark.parametrize("inside", [True, False], ids=["task class", "bare encoder"])
@pytest.mark.parametrize("architecture", ["pfeiffer", "pfeiffer-inv", "houlsby", "parallel"])
def test_an_adapter_of_the_adapters_library_computes_the_same(
    architecture: str, inside: bool, world: tuple[Path, Zoo], tmp_path: Path
) -> None:
    import adapters

    config = {
        "pfeiffer": adapters.SeqBnConfig(reduction_factor=4),
        "pfeiffer-inv": adapters.SeqBnInvConfig(reduction_factor=2),
        "houlsby": adapters.DoubleSeqBnConfig(reduction_factor=8),
        "parallel": adapters.ParBnConfig(reduction_factor=4),
    }[architecture]
    expected = blocks(tmp_path / "theirs", config, inside=inside)
    entry = take(tmp_path / "theirs", world, licence="MIT", task="mlm-sw")
    assert torch.allclose(computed(entry, world), expected, atol=1e-6)
    assert entry.card.run.method.settings["architecture"] == architecture.partition("-")[0]
    assert (entry.card.licence, entry.card.run.task) == ("MIT", "mlm-sw")


def test_what_was_imported_can_be_started_from_and_stood_on(world: tuple[Path, Zoo], tmp_path: Path) -> None:
    a_lora(tmp_path / "theirs", r=4, lora_alpha=16)
    entry = take(tmp_path / "theirs", world, drop=HEADS)
    model = build(a_run("lora", world[0], init=Warm(entry=entry.key)), zoo=world[1], tasks=[NLI])
    fit(model, NLI)
    route = Stack(parts=(Use(entry=entry.key), Slot()))
    fit(build(a_run("lora", world[0], route=route), zoo=world[1], tasks=[NLI]), NLI)
    with pytest.raises(ConfigError, match=r"was imported, not trained.*Warm from it"):
        build(entry.card.run, zoo=world[1], tasks=[NLI])


@pytest.mark.parametrize("merge", [WeightAverage, Ties])
def test_what_was_imported_merges_with_what_was_trained_here(
    merge: Any, world: tuple[Path, Zoo], tmp_path: Path
) -> None:
    a_lora(tmp_path, r=5)  # its targets are spelt out on its card, those of a run here are the default
    theirs = take(tmp_path, world, drop=HEADS).key
    ours = train_entry(a_run("lora", world[0]), world[1])[0].key
    one, other = (
        keep_merge(merge(entries=pair, weights=(0.5, 0.5)), zoo=world[1], backbone=world[0])
        for pair in ((theirs, ours), (ours, theirs))
    )
    assert one.card.run.method.settings["r"] == 9 and other.card.probe is not None
    assert not one.card.heads and one.card.notes.endswith(f"no heads, for {theirs} has none")
    assert torch.allclose(computed(one, world), computed(other, world), atol=1e-5)
    assert not torch.allclose(computed(one, world), computed(world[1].get(theirs), world), atol=1e-3)


def test_another_licence_for_what_is_here_is_refused_and_not_ignored(world: tuple[Path, Zoo], tmp_path: Path) -> None:
    a_lora(tmp_path, r=2)
    first = take(tmp_path, world, drop=HEADS)
    with pytest.raises(ZooError, match=rf"is here already, with licence 'unknown'.*xling zoo rm {first.key}"):
        take(tmp_path, world, drop=HEADS, licence="MIT")
    world[1].remove(first.key)
    assert take(tmp_path, world, drop=HEADS, licence="MIT").card.licence == "MIT"
    assert take(tmp_path, world, drop=HEADS).card.licence == "MIT", "nothing was said of it this time"


def change(folder: Path, **values: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def weights(folder: Path, rename: Any) -> None:
    path = next(folder.glob("adapter*.safetensors"))
    save_file({rename(name): tensor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})


def test_what_cannot_be_taken_whole_is_refused(world: tuple[Path, Zoo], tmp_path: Path) -> None:
    before = world[1].keys()
    theirs = tmp_path / "theirs"
    a_lora(theirs)
    with pytest.raises(ZooError, match=r"modules_to_save is \['classifier', 'score'\].*--without-head"):
        take(theirs, world)
    weights(theirs, lambda name: name.replace("layer.0.", "layer.9."))
    with pytest.raises(ZooError, match=r"unexpected.*layer\.9|missing"):
        take(theirs, world, drop=HEADS)
    weights(theirs, lambda name: name.replace("layer.9.", "layer.0.").replace("roberta.", "other."))
    with pytest.raises(ZooError, match=r"not all adapted alike|unexpected"):
        take(theirs, world, drop=HEADS)
    with pytest.raises(ConfigError, match="no such folder"):
        take(tmp_path / "nowhere", world)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZooError, match=r"no adapter_config\.json"):
        take(tmp_path / "empty", world)
    assert world[1].keys() == before


@pytest.mark.parametrize("name", ["adapter_model.bin", "pytorch_adapter.bin"])
def test_pickled_weights_are_never_read_and_the_way_out_is_named(
    name: str, world: tuple[Path, Zoo], tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / name).write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/never'\ntR.")
    with pytest.raises(ZooError, match=rf"{name} is pickled.*never read.*convert it: safetensors"):
        take(tmp_path, world)


def test_an_adapter_for_another_backbone_is_refused_by_its_own_word(world: tuple[Path, Zoo], tmp_path: Path) -> None:
    a_lora(tmp_path)
    change(tmp_path, base_model_name_or_path="FacebookAI/xlm-roberta-large")
    with pytest.raises(ZooError, match=r"made for 'FacebookAI/xlm-roberta-large', this backbone is 'tiny'"):
        take(tmp_path, world, drop=HEADS, other_backbone=False)
    change(tmp_path, base_model_name_or_path="somebody/Tiny")
    take(tmp_path, world, drop=HEADS, other_backbone=False)


@pytest.mark.parametrize(
    "values",
    [
        {"peft_type": "VERA"},
        {"peft_type": "parse_composition"},
        {"auto_mapping": {"base_model_class": "system", "parent_library": "os"}},
        {"r": -1},
        {"r": 10**9},
        {"target_modules": ".*"},
        {"bias": "all"},
        {"init_lora_weights": "pissa"},
        {"rank_pattern": {"query": 9}},
        {"lora_alpha": "x"},
        {"layers_to_transform": "all"},
        {"use_dora": "yes"},
    ],
    ids=str,
)
def test_a_configuration_that_asks_for_more_is_refused(
    values: dict[str, Any], world: tuple[Path, Zoo], tmp_path: Path
) -> None:
    a_lora(tmp_path)
    change(tmp_path, **values)
    with pytest.raises(XlingError) as error:
        take(tmp_path, world, drop=HEADS)
    assert str(tmp_path) in str(error.value) and "xling-import-" not in str(error.value)
