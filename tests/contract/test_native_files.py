"""What a stranger without this package makes of an entry's files, and what a bad file makes of us."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from worlds import CASES, OWN, PARENT, inputs, method_of, new_encoder, output, trained_slot

from adapters_xling.errors import ZooError
from adapters_xling.methods.bottleneck import Bottleneck
from adapters_xling.spec import BackboneId, Slot, Use

BOTTLENECKS = tuple(case for case, (name, _) in CASES.items() if name == "bottleneck")
LORAS = tuple(case for case, (name, _) in CASES.items() if name == "lora")
HUB = BackboneId(name="xlm-roberta-base", repo="FacebookAI/xlm-roberta-base", revision="a" * 40, digest="0" * 64)


@pytest.mark.parametrize("case", BOTTLENECKS)
def test_plain_adapters_loads_an_entry_on_the_bare_encoder(case: str, tmp_path: Path) -> None:
    import adapters

    expected = trained_slot(case, tmp_path)
    encoder = new_encoder()
    adapters.init(encoder)
    info: dict[str, Any] = {}
    name = encoder.load_adapter(str(tmp_path), use_safetensors=True, loading_info=info, set_active=True)
    assert torch.equal(output(encoder.eval()), expected)
    assert not info["unexpected_keys"]
    # A prefix hangs in the module tree once per layer and is stored once.
    assert not info["missing_keys"] or case == "prefix"
    assert name == "xling"


@pytest.mark.parametrize("case", LORAS)
def test_plain_peft_loads_an_entry_on_the_bare_encoder(case: str, tmp_path: Path, recwarn: Any) -> None:
    from peft import PeftModel

    expected = trained_slot(case, tmp_path)
    model = PeftModel.from_pretrained(new_encoder(), str(tmp_path)).eval()
    with torch.no_grad():
        assert torch.equal(model(**inputs()).last_hidden_state, expected)
    assert not [str(w.message) for w in recwarn if "missing" in str(w.message) or "unexpected" in str(w.message)]


@pytest.mark.parametrize("case", ["full", "full-frozen-tokens"])
def test_plain_transformers_loads_an_entry_of_full(case: str, tmp_path: Path) -> None:
    from transformers import XLMRobertaModel

    expected = trained_slot(case, tmp_path)
    encoder, info = XLMRobertaModel.from_pretrained(tmp_path, add_pooling_layer=False, output_loading_info=True)
    assert torch.equal(output(encoder.eval()), expected)
    assert not info["missing_keys"] and not info["unexpected_keys"]


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_native_files_name_backbone_and_adapter_honestly(case: str, tmp_path: Path) -> None:
    method, encoder = method_of(case), new_encoder()
    encoder.config._name_or_path = encoder.name_or_path = "/home/somebody/private"
    method.attach(encoder, OWN, None, Slot())
    method.save(encoder, OWN, tmp_path, name="mnli-xlmr", backbone=HUB)
    text = (tmp_path / "adapter_config.json").read_text()
    data = json.loads(text)
    assert "somebody" not in text and OWN not in text
    assert HUB.repo in (data.get("model_name"), data.get("base_model_name_or_path"))
    assert data.get("revision", HUB.revision) == HUB.revision
    assert data.get("name", "mnli-xlmr") == "mnli-xlmr"


@pytest.mark.parametrize("case", ["pfeiffer", "lora", "dora", "prefix", "full"])
def test_saving_twice_gives_the_same_bytes(case: str, tmp_path: Path) -> None:
    trained_slot(case, tmp_path / "a")
    method, encoder = method_of(case), new_encoder()
    method.attach(encoder, OWN, tmp_path / "a", Slot())
    method.save(encoder, OWN, tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("case", ["parallel", "pfeiffer", "houlsby", "compacter", "pfeiffer-inv"])
def test_architectures_are_those_of_the_library(case: str) -> None:
    """Our defaults are written down here; this shows when the library's presets move away from them."""
    import adapters

    presets = {
        "pfeiffer": adapters.SeqBnConfig,
        "pfeiffer-inv": adapters.SeqBnInvConfig,
        "houlsby": adapters.DoubleSeqBnConfig,
        "parallel": adapters.ParBnConfig,
        "compacter": adapters.CompacterConfig,
    }
    changes = {"inv_adapter": "nice"} if case == "pfeiffer-inv" else {}
    wide = new_encoder()
    wide.config.hidden_size = 768  # compacter's default width must be a multiple of 4
    ours = Bottleneck(architecture=case.partition("-")[0], **changes)._config(wide)  # type: ignore[arg-type]
    assert ours.to_dict() == presets[case]().to_dict()


# --- bad files ----------------------------------------------------------------------------------------------------


def weights(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


def change_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(weights(folder))
        change(tensors)
        save_file(tensors, weights(folder), metadata={"format": "pt"})

    return apply


def change_config(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "adapter_config.json"
        data = json.loads(path.read_text())
        for name, value in changes.items():
            place = data["config"] if name.startswith("config_") else data
            place[name.removeprefix("config_")] = value
        path.write_text(json.dumps(data))

    return apply


def only_pickle(folder: Path) -> None:
    tensors = load_file(weights(folder))
    weights(folder).unlink()
    for name in ("pytorch_adapter.bin", "adapter_model.bin", "pytorch_model.bin"):
        torch.save(tensors, folder / name)


def first(tensors: dict[str, torch.Tensor]) -> str:
    return sorted(tensors)[0]


WEIGHT_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (change_tensors(lambda t: t.pop(first(t))), "1 missing"),
    "unexpected": (change_tensors(lambda t: t.update(stranger=torch.zeros(1))), "1 unexpected"),
    "shape": (change_tensors(lambda t: t.update({first(t): torch.zeros(3, 5)})), "of another shape"),
    "pickle": (only_pickle, "safetensors only"),
    "garbage": (lambda folder: weights(folder).write_bytes(b"\x80\x04nonsense" * 9), "not a safetensors file"),
}


@pytest.mark.parametrize("fault", WEIGHT_FAULTS)
@pytest.mark.parametrize("case", ["full", "pfeiffer", "compacter", "prefix", "lora", "dora"])
def test_weights_that_do_not_fit_are_refused(case: str, fault: str, tmp_path: Path) -> None:
    trained_slot(case, tmp_path)
    spoil, says = WEIGHT_FAULTS[fault]
    spoil(tmp_path)
    with pytest.raises(ZooError, match=says):
        method_of(case).load(new_encoder(), PARENT, tmp_path)
    with pytest.raises(ZooError, match=says):
        method_of(case).attach(new_encoder(), OWN, tmp_path, Slot())


CONFIG_FAULTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a class name from the file": ("pfeiffer", change_config(config_architecture="union"), "architecture is 'union'"),
    "a function of the library": (
        "pfeiffer",
        change_config(config_type="parse_composition"),
        "'type' is not a setting of this architecture",
    ),
    "an unknown setting": ("pfeiffer", change_config(config_reduction=4), "'reduction' is not a setting"),
    "a nested value": ("pfeiffer", change_config(config_scaling={"a": 1}), "scaling holds a value"),
    "a code path that needs more": ("pfeiffer", change_config(config_stochastic_depth=0.5), "stochastic_depth"),
    "another width": ("pfeiffer", change_config(hidden_size=768), "hidden_size is 768, this backbone's is 32"),
    "another family": ("pfeiffer", change_config(model_type="bert"), "model_type is 'bert'"),
    "a name that is a path": ("pfeiffer", change_config(name="../x"), "usable name"),
    "no configuration": ("pfeiffer", change_config(config=None), "no adapter configuration"),
    "another method of peft": ("lora", change_config(peft_type="VERA"), "only 'LORA'"),
    "an init that alters the backbone": ("lora", change_config(init_lora_weights="pissa"), "alters the backbone"),
    "extra trained modules": ("lora", change_config(modules_to_save=["embeddings"]), "modules_to_save"),
    "trained biases": ("lora", change_config(bias="all"), "bias"),
    "a rank by pattern": ("lora", change_config(rank_pattern={"query": 2}), "rank_pattern"),
    "a field nobody knows": ("lora", change_config(future_switch=True), "future_switch"),
    "a rank that is no number": ("lora", change_config(r="4"), "r '4'"),
    "targets as a pattern": ("lora", change_config(target_modules=".*"), "target_modules '.*'"),
}


@pytest.mark.parametrize("fault", CONFIG_FAULTS)
def test_a_configuration_that_asks_for_more_than_an_adapter_is_refused(fault: str, tmp_path: Path) -> None:
    case, spoil, says = CONFIG_FAULTS[fault]
    trained_slot(case, tmp_path)
    spoil(tmp_path)
    with pytest.raises(ZooError) as found:
        method_of(case).load(new_encoder(), PARENT, tmp_path)
    assert says in str(found.value)
    assert str(tmp_path) in str(found.value)


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_a_missing_or_broken_configuration_is_refused(case: str, tmp_path: Path) -> None:
    trained_slot(case, tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text("[1]")
    with pytest.raises(ZooError, match="JSON object"):
        method_of(case).load(new_encoder(), PARENT, tmp_path)
    path.write_text("{")
    with pytest.raises(ZooError, match="not readable as JSON"):
        method_of(case).load(new_encoder(), PARENT, tmp_path)
    path.unlink()
    with pytest.raises(ZooError, match="no such file"):
        method_of(case).load(new_encoder(), PARENT, tmp_path)


def test_the_library_silently_takes_what_is_refused_here(tmp_path: Path) -> None:
    """The reason for reading strictly: plain adapters loads half an adapter without a word."""
    import adapters

    trained_slot("pfeiffer", tmp_path)
    change_tensors(lambda t: t.pop(first(t)))(tmp_path)
    encoder = new_encoder()
    adapters.init(encoder)
    encoder.load_adapter(str(tmp_path), use_safetensors=True)
    with pytest.raises(ZooError, match="1 missing"):
        method_of("pfeiffer").load(new_encoder(), PARENT, tmp_path)


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_a_deeper_adapter_does_not_slip_into_a_shallower_encoder(case: str, tmp_path: Path) -> None:
    from tiny import tiny_encoder, tiny_tokenizer

    trained_slot(case, tmp_path)
    shallow = tiny_encoder(len(tiny_tokenizer()), layers=2).requires_grad_(False)
    with pytest.raises(ZooError, match="unexpected"):
        method_of(case).load(shallow, PARENT, tmp_path)


@pytest.mark.parametrize("case", ["lora", "pfeiffer"])
def test_an_entry_keeps_its_own_scaling_when_loaded_by_a_method_with_other_settings(case: str, tmp_path: Path) -> None:
    expected = trained_slot(case, tmp_path)
    other = method_of({"lora": "lora-all", "pfeiffer": "houlsby"}[case])
    encoder = new_encoder()
    other.load(encoder, PARENT, tmp_path)
    other.activate(encoder, Use(entry=PARENT))
    assert torch.equal(output(encoder), expected)


def test_a_folder_can_be_moved(tmp_path: Path) -> None:
    expected = trained_slot("lora", tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    encoder, method = new_encoder(), method_of("lora")
    method.load(encoder, PARENT, tmp_path / "b")
    method.activate(encoder, Use(entry=PARENT))
    assert torch.equal(output(encoder), expected)
