"""What every method promises about an encoder, over all methods and settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from worlds import (
    CASES,
    LAYERS,
    OTHER,
    OWN,
    PARENT,
    SLOTTED,
    STACKING,
    hidden_states,
    inputs,
    method_of,
    new_encoder,
    output,
    snapshot,
    train,
    trained_slot,
)

from adapters_xling.backbones import FAMILIES
from adapters_xling.errors import ConfigError, UnknownName, XlingError
from adapters_xling.methods import resolve
from adapters_xling.methods.bottleneck import ACTIVATIONS
from adapters_xling.model import fingerprint
from adapters_xling.spec import Base, Fresh, Route, Slot, Stack, Use, Warm, canonical_json

every_method = pytest.mark.parametrize("case", CASES)
every_slotted = pytest.mark.parametrize("case", SLOTTED)
every_stacking = pytest.mark.parametrize("case", STACKING)


def stack(*names: str) -> Stack:
    return Stack(parts=(*(Use(entry=name) for name in names), Slot()))


@every_method
def test_settings_survive_the_way_through_data(case: str) -> None:
    method = method_of(case)
    method.check(FAMILIES["xlm-roberta"])
    assert resolve(method.spec()) == method


def test_defaults_are_written_out_and_equal_the_same_numbers_given_by_hand() -> None:
    given = resolve(
        "bottleneck", {"reduction_factor": 16, "non_linearity": "relu", "dropout": 0, "inv_adapter": "none"}
    )
    assert canonical_json(given.spec()) == canonical_json(resolve("bottleneck").spec())
    assert resolve("bottleneck").spec().settings["reduction_factor"] == 16


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("lora", {"layers": (0, 1)}, {"layers": [1, 0, 1]}),
        ("lora", {"targets": ("key", "query")}, {"targets": ["query", "key", "key"]}),
        ("bottleneck", {"leave_out": (0, 2)}, {"leave_out": [2, 0, 2]}),
    ],
)
def test_the_order_of_layers_and_targets_makes_no_other_method(name: str, one: dict, other: dict) -> None:
    assert canonical_json(resolve(name, one).spec()) == canonical_json(resolve(name, other).spec())
    assert resolve(name, one) == resolve(name, other) != resolve(name)


@every_method
def test_attach_makes_exactly_the_declared_parameters_trainable(case: str) -> None:
    encoder = new_encoder()
    trainable = method_of(case).attach(encoder, OWN, None, Slot())
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == trainable.parameters
    assert not any(module.training for module in encoder.modules())
    inside = {id(p) for module in trainable.modules for p in module.parameters()}
    assert {id(p) for name, p in encoder.named_parameters() if name in trainable.parameters} <= inside


@every_slotted
def test_training_changes_the_slot_and_leaves_every_other_bit_alone(case: str) -> None:
    method, encoder = method_of(case), new_encoder()
    before = fingerprint(encoder)
    trainable = method.attach(encoder, OWN, None, Slot())
    start = snapshot(encoder)
    train(encoder, trainable.parameters)
    changed = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, start[name])}
    assert changed
    assert all(OWN in name.split(".") for name in changed)
    assert fingerprint(encoder, backbone_name=method.backbone_name) == before


def test_full_without_token_vectors_trains_all_but_them() -> None:
    encoder = new_encoder()
    trainable = method_of("full-frozen-tokens").attach(encoder, OWN, None, Slot())
    assert {n for n, _ in encoder.named_parameters()} - trainable.parameters == {"embeddings.word_embeddings.weight"}


@every_method
def test_a_saved_slot_loads_to_the_same_output_bit_for_bit(case: str, tmp_path: Path) -> None:
    expected = trained_slot(case, tmp_path)
    method, encoder = method_of(case), new_encoder()
    assert torch.equal(output(encoder), expected) is (case == "head")
    method.load(encoder, PARENT, tmp_path)
    method.activate(encoder, Use(entry=PARENT))
    assert torch.equal(output(encoder), expected)
    assert not any(p.requires_grad for p in encoder.parameters())
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors"}


@every_method
def test_a_warm_start_computes_what_its_parent_computed(case: str, tmp_path: Path) -> None:
    expected = trained_slot(case, tmp_path)
    method, encoder = method_of(case), new_encoder()
    trainable = method.attach(encoder, OWN, tmp_path, Slot())
    assert torch.equal(output(encoder), expected)
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == trainable.parameters


@every_slotted
def test_the_base_route_is_the_bare_backbone_bit_for_bit(case: str) -> None:
    method, encoder = method_of(case), new_encoder()
    bare = output(encoder)
    trainable = method.attach(encoder, OWN, None, Slot())
    train(encoder, trainable.parameters)
    adapted = output(encoder)
    assert not torch.equal(adapted, bare)
    method.activate(encoder, Base())
    assert torch.equal(output(encoder), bare)
    method.activate(encoder, Use(entry=OWN))
    assert torch.equal(output(encoder), adapted)
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == trainable.parameters


@pytest.mark.parametrize("case", ["lora", "lora-all", "lora-top"])
def test_a_fresh_lora_leaves_its_parent_as_it_is(case: str, tmp_path: Path) -> None:
    expected = trained_slot("lora-all", tmp_path)
    method, encoder = method_of(case), new_encoder()
    method.load(encoder, PARENT, tmp_path)
    method.attach(encoder, OWN, None, stack(PARENT))
    assert torch.equal(output(encoder), expected)


@pytest.mark.parametrize("case", ["pfeiffer", "prefix"])
def test_a_fresh_bottleneck_is_not_neutral(case: str) -> None:
    encoder = new_encoder()
    bare = output(encoder)
    method_of(case).attach(encoder, OWN, None, Slot())
    assert not torch.equal(output(encoder), bare)


@every_slotted
def test_lowest_layer_is_the_first_hidden_state_that_differs(case: str) -> None:
    method, encoder = method_of(case), new_encoder()
    bare = hidden_states(encoder)
    train(encoder, method.attach(encoder, OWN, None, Slot()).parameters)
    same = [torch.equal(a, b) for a, b in zip(hidden_states(encoder), bare, strict=True)]
    lowest = method.lowest_layer(LAYERS)
    assert same[:lowest] == [True] * lowest
    assert not any(same[lowest:])


def test_the_head_method_differs_nowhere_and_full_everywhere() -> None:
    assert method_of("head").lowest_layer(LAYERS) == LAYERS + 1
    assert method_of("full").lowest_layer(LAYERS) == 0


# --- stacks -----------------------------------------------------------------------------------------------------


@every_stacking
def test_in_a_stack_only_the_own_slot_trains(case: str, tmp_path: Path) -> None:
    name = CASES[case][0]
    parent = "lora-all" if name == "lora" else "houlsby"  # other settings than the child's
    expected = trained_slot(parent, tmp_path)
    method, encoder = method_of(case), new_encoder()
    method.load(encoder, PARENT, tmp_path)
    trainable = method.attach(encoder, OWN, None, stack(PARENT))
    asking = {n for n, p in encoder.named_parameters() if p.requires_grad}
    assert asking == trainable.parameters and all(OWN in n.split(".") for n in asking)
    start = snapshot(encoder)
    train(encoder, trainable.parameters)
    changed = {n for n, t in encoder.state_dict().items() if not torch.equal(t, start[n])}
    assert changed and all(OWN in n.split(".") for n in changed)
    stacked = output(encoder)
    method.activate(encoder, Use(entry=PARENT))
    assert torch.equal(output(encoder), expected)
    method.activate(encoder, Stack(parts=(Use(entry=PARENT), Use(entry=OWN))))
    assert torch.equal(output(encoder), stacked)
    method.activate(encoder, Use(entry=OWN))
    alone = output(encoder)
    assert not torch.equal(alone, stacked)


@every_stacking
def test_a_stack_saved_in_parts_is_put_together_again(case: str, tmp_path: Path) -> None:
    name = CASES[case][0]
    parent = "lora-all" if name == "lora" else "houlsby"
    trained_slot(parent, tmp_path / "parent")
    method, encoder = method_of(case), new_encoder()
    method.load(encoder, PARENT, tmp_path / "parent")
    train(encoder, method.attach(encoder, OWN, None, stack(PARENT)).parameters)
    method.save(encoder, OWN, tmp_path / "child")
    expected = output(encoder)
    again = new_encoder()
    method.load(again, OTHER, tmp_path / "child")
    method.load(again, PARENT, tmp_path / "parent")
    method.activate(again, Stack(parts=(Use(entry=PARENT), Use(entry=OTHER))))
    assert torch.equal(output(again), expected)


def test_a_stack_of_loras_is_the_sum_of_their_updates(tmp_path: Path) -> None:
    """Against weights added by hand; libraries that feed one update into the next give something else."""
    folders = {"lora": tmp_path / "a", "lora-all": tmp_path / "b"}
    for i, (case, folder) in enumerate(folders.items()):
        trained_slot(case, folder, seed=i)
    method, encoder = method_of("lora"), new_encoder()
    method.load(encoder, PARENT, folders["lora"])
    method.load(encoder, OTHER, folders["lora-all"])
    method.activate(encoder, Stack(parts=(Use(entry=PARENT), Use(entry=OTHER))))
    summed = new_encoder()
    scales = {"lora": 16 / 4, "lora-all": 16 / 2**0.5}
    for case, folder in folders.items():
        from safetensors.torch import load_file

        tensors = load_file(folder / "adapter_model.safetensors")
        for name, down in tensors.items():
            if name.endswith("lora_A.weight"):
                target = summed.get_parameter(
                    name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
                )
                target.data += scales[case] * tensors[name.replace("lora_A", "lora_B")] @ down
    assert torch.allclose(output(encoder), output(summed), atol=1e-5)
    method.activate(encoder, Stack(parts=(Use(entry=OTHER), Use(entry=PARENT))))
    assert torch.allclose(output(encoder), output(summed), atol=1e-5)


@pytest.mark.parametrize("name", ["lora", "bottleneck"])
def test_slots_of_many_entries_do_not_touch_each_other(name: str, tmp_path: Path) -> None:
    case = {"lora": "lora", "bottleneck": "pfeiffer"}[name]
    outputs = [trained_slot(case, tmp_path / str(i), seed=i) for i in range(12)]
    method, encoder = method_of(case), new_encoder()
    for i in range(12):
        method.load(encoder, f"s{i:03d}_", tmp_path / str(i))
    for i in (11, 0, 1, 10):
        method.activate(encoder, Use(entry=f"s{i:03d}_"))
        assert torch.equal(output(encoder), outputs[i])
        method.save(encoder, f"s{i:03d}_", tmp_path / f"again{i}")
        for file in (tmp_path / f"again{i}").glob("*.safetensors"):
            assert file.read_bytes() == (tmp_path / str(i) / file.name).read_bytes()


# --- dropout ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["pfeiffer-top", "lora", "dora"])
def test_dropout_acts_in_the_trainable_slot_only(case: str, tmp_path: Path) -> None:
    name, settings = CASES[case]
    method, encoder = resolve(name, {**settings, "dropout": 0.5}), new_encoder()
    assert encoder.config.hidden_dropout_prob > 0
    trainable = method.attach(encoder, OWN, None, Slot())
    train(encoder, trainable.parameters)
    assert torch.equal(output(encoder), output(encoder))
    for module in trainable.modules:
        module.train()
    assert not torch.equal(output(encoder), output(encoder))
    states = [hidden_states(encoder) for _ in range(2)]
    lowest = method.lowest_layer(LAYERS)
    assert all(torch.equal(a, b) for a, b in zip(states[0][:lowest], states[1][:lowest], strict=True))


def test_dropout_of_a_parent_stays_off_while_the_child_trains(tmp_path: Path) -> None:
    parent, child = resolve("lora", {"dropout": 0.9}), resolve("lora", {"dropout": 0.0})
    first = new_encoder()
    train(first, parent.attach(first, OWN, None, Slot()).parameters)
    parent.save(first, OWN, tmp_path)
    encoder = new_encoder()
    parent.load(encoder, PARENT, tmp_path)
    for module in child.attach(encoder, OWN, None, stack(PARENT)).modules:
        module.train()
    assert torch.equal(output(encoder), output(encoder))


# --- refusals ---------------------------------------------------------------------------------------------------

ROUTES: dict[str, Route] = {
    "slot": Slot(),
    "base": Base(),
    "use": Use(entry=PARENT),
    "stack": stack(PARENT),
    "slot-below": Stack(parts=(Slot(), Use(entry=PARENT))),
    "short": Stack(parts=(Slot(),)),
    "with-base": Stack(parts=(Base(), Slot())),
    "two-slots": Stack(parts=(Slot(), Slot())),
}
FORM = {"short": "at least two parts", "with-base": "Base cannot be part", "two-slots": "once only"}
REFUSED = {
    ("full", "stack"): f"method 'full' cannot Stack: it starts from Fresh or Warm. To start from {PARENT} use Warm.",
    ("full", "slot-below"): "cannot Stack",
    ("full", "base"): "cannot run Base",
    ("head", "stack"): "cannot Stack: it adds nothing",
    ("head", "slot-below"): "cannot Stack",
    ("parallel", "stack"): "would drop what the part below it added",
    ("parallel", "slot-below"): "would drop",
    ("dora", "stack"): "parts do not add up",
    ("dora", "slot-below"): "do not add up",
    ("pfeiffer-inv", "stack"): "in first place only",
}


@pytest.mark.parametrize("init", [Fresh(), Warm(entry="some-entry")], ids=["fresh", "warm"])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("case", [name for name in CASES if name != "full-frozen-tokens"])
def test_a_method_says_beforehand_what_it_cannot_do_and_does_the_rest(
    case: str, route: str, init: Fresh | Warm, tmp_path: Path
) -> None:
    """`supports` and the live encoder must agree: what is refused says why, what is not refused runs."""
    method = method_of(case)
    reason = method.supports(init, ROUTES[route])
    expected = FORM.get(route) or REFUSED.get((case, route))
    if expected:
        assert reason and expected in reason
        return
    assert reason is None
    if route == "use" and not method.shares_encoder:
        return
    encoder = new_encoder()
    trained_slot(case, tmp_path)
    if route in ("use", "stack", "slot-below"):
        parent = "houlsby" if case == "pfeiffer-inv" else case  # an invertible part above another is refused, see below
        trained_slot(parent, tmp_path / "parent")
        method.load(encoder, PARENT, tmp_path / "parent")
    if route in ("slot", "stack", "slot-below"):
        method.attach(encoder, OWN, tmp_path if isinstance(init, Warm) else None, ROUTES[route])
    else:
        method.activate(encoder, ROUTES[route])
    assert torch.isfinite(output(encoder)).all()


def test_an_invertible_parent_above_another_part_is_refused_when_activated(tmp_path: Path) -> None:
    trained_slot("pfeiffer-inv", tmp_path)
    method, encoder = method_of("pfeiffer"), new_encoder()
    method.load(encoder, PARENT, tmp_path)
    method.attach(encoder, OWN, None, stack(PARENT))
    with pytest.raises(ConfigError, match="first place only"):
        method.activate(encoder, Stack(parts=(Use(entry=OWN), Use(entry=PARENT))))


@pytest.mark.parametrize(("parent", "child"), [("parallel", "pfeiffer"), ("dora", "lora")])
def test_a_parent_that_does_not_stack_is_refused_when_activated(parent: str, child: str, tmp_path: Path) -> None:
    trained_slot(parent, tmp_path)
    method, encoder = method_of(child), new_encoder()
    method.load(encoder, PARENT, tmp_path)
    with pytest.raises(ConfigError, match=r"Stack"):
        method.attach(encoder, OWN, None, stack(PARENT))


@pytest.mark.parametrize("case", ["pfeiffer", "lora"])
def test_a_route_to_an_absent_or_repeated_slot_is_refused(case: str, tmp_path: Path) -> None:
    trained_slot(case, tmp_path)
    method, encoder = method_of(case), new_encoder()
    method.load(encoder, PARENT, tmp_path)
    with pytest.raises(ConfigError, match=f"{OTHER}.*resident.*{PARENT}"):
        method.activate(encoder, Use(entry=OTHER))
    with pytest.raises(ConfigError, match="twice"):
        method.activate(encoder, Stack(parts=(Use(entry=PARENT), Use(entry=PARENT))))


@pytest.mark.parametrize(("first", "second"), [("pfeiffer", "lora"), ("lora", "pfeiffer")])
def test_two_families_in_one_encoder_are_refused(first: str, second: str) -> None:
    encoder = new_encoder()
    method_of(first).attach(encoder, OWN, None, Slot())
    with pytest.raises(ConfigError, match="both rewrite the same modules"):
        method_of(second).attach(encoder, OTHER, None, Slot())


@pytest.mark.parametrize(
    ("case", "change", "names"),
    [
        ("lora", {"r": 8}, "r 4 there, 8 here"),
        ("lora", {"targets": ("key",)}, "target_modules"),
        ("lora", {"alpha": 1.0}, "lora_alpha"),
        ("pfeiffer", {"reduction_factor": 8}, "reduction_factor 4.0 there, 8.0 here"),
        ("pfeiffer", {"leave_out": (0,)}, "leave_out"),
        ("prefix", {"prefix_length": 4}, "prefix_length 3 there, 4 here"),
    ],
)
def test_a_warm_start_with_other_settings_is_refused(case: str, change: dict, names: str, tmp_path: Path) -> None:
    trained_slot(case, tmp_path)
    name, settings = CASES[case]
    with pytest.raises(ConfigError) as found:
        resolve(name, {**settings, **change}).attach(new_encoder(), OWN, tmp_path, Slot())
    assert names in str(found.value)


@pytest.mark.parametrize("case", ["lora", "pfeiffer"])
def test_a_warm_start_may_have_another_dropout(case: str, tmp_path: Path) -> None:
    expected = trained_slot(case, tmp_path)
    name, settings = CASES[case]
    encoder = new_encoder()
    resolve(name, {**settings, "dropout": 0.4}).attach(encoder, OWN, tmp_path, Slot())
    assert torch.equal(output(encoder), expected)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("lora", {"r": 0}, "rank of 1 or more"),
        ("lora", {"alpha": 0}, "above 0"),
        ("lora", {"dropout": 1}, "dropout"),
        ("lora", {"targets": ("quary",)}, "quary"),
        ("lora", {"targets": ()}, "nothing"),
        ("lora", {"layers": ()}, "layers"),
        ("lora", {"layers": (9,)}, "layers 0 to 2"),
        ("head", {"layer": -1}, "layer is -1"),
        ("bottleneck", {"reduction_factor": 0}, "reduction_factor is 0"),
        ("bottleneck", {"prefix_length": 3}, "does not belong to architecture 'pfeiffer'"),
        ("bottleneck", {"architecture": "prefix", "inv_adapter": "nice"}, "does not belong to architecture 'prefix'"),
        ("bottleneck", {"non_linearity": "rellu"}, "relu"),
        ("bottleneck", {"leave_out": (0, 1, 2)}, "leaves no layer"),
        ("bottleneck", {"leave_out": (7,)}, "layers 0 to 2"),
        ("bottleneck", {"architecture": "compacter", "reduction_factor": 16}, "multiple of 4"),
        ("bottleneck", {"architecture": "pfeifer"}, "pfeifer"),
        ("lora", {"rank": 8}, "rank"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_what_is_valid(name: str, settings: dict, says: str) -> None:
    with pytest.raises(XlingError) as found:
        method = resolve(name, settings)
        method.check(FAMILIES["xlm-roberta"])
        method.attach(new_encoder(), OWN, None, Slot())
    assert says in str(found.value)


def test_the_close_name_is_suggested_for_an_activation() -> None:
    with pytest.raises(UnknownName, match="Did you mean"):
        resolve("bottleneck", {"non_linearity": "rellu"}).check(FAMILIES["xlm-roberta"])


# --- what the libraries would do otherwise ------------------------------------------------------------------------


def test_a_target_that_ends_another_targets_name_is_not_mistaken_for_it() -> None:
    encoder = new_encoder()
    trainable = resolve("lora", {"targets": ("output.dense",)}).attach(encoder, OWN, None, Slot())
    assert trainable.parameters and not any("attention" in name for name in trainable.parameters)
    both = resolve("lora", {"targets": "all-linear"}).attach(new_encoder(), OWN, None, Slot())
    assert any("attention.output.dense" in name for name in both.parameters)


@pytest.mark.parametrize("case", SLOTTED)
def test_random_weights_follow_from_the_global_generator(case: str) -> None:
    states = []
    for seed in (0, 0, 1):
        encoder = new_encoder()
        torch.manual_seed(seed)
        trainable = method_of(case).attach(encoder, OWN, None, Slot())
        states.append({n: p for n, p in encoder.named_parameters() if n in trainable.parameters})
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])
    assert any(not torch.equal(states[0][n], states[2][n]) for n in states[0])


def test_running_beside_inactive_slots_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    encoder = new_encoder()
    method = method_of("pfeiffer")
    method.attach(encoder, OWN, None, Slot())
    method.activate(encoder, Base())
    logging.getLogger("adapters").addHandler(caplog.handler)
    encoder(**inputs())
    logging.getLogger("adapters").removeHandler(caplog.handler)
    assert "none are activated" not in caplog.text


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_that_may_be_named_runs(name: str) -> None:
    encoder = new_encoder()
    method = resolve("bottleneck", {"non_linearity": name, "reduction_factor": 4})
    method.check(FAMILIES["xlm-roberta"])
    method.attach(encoder, OWN, None, Slot())
    assert torch.isfinite(output(encoder)).all()


def test_settings_are_checked_without_importing_a_library() -> None:
    code = (
        "import sys; from adapters_xling.methods import method_names, resolve; "
        "from adapters_xling.backbones import FAMILIES; from adapters_xling.spec import Fresh, Slot; "
        "found = [resolve(name) for name in method_names()]; "
        "[(m.check(FAMILIES['xlm-roberta']), m.supports(Fresh(), Slot()), m.lowest_layer(2)) for m in found]; "
        "print(sorted({'torch', 'transformers', 'adapters', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
