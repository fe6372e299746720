"""Entries to and from the loopback hub with the real client. Run by `test_hub.py`."""

from __future__ import annotations

from tests.hub.sets import HUB  # isort: skip - first: it sets HF_ENDPOINT

import functools
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from adapters_xling import hub
from adapters_xling.cli import share
from adapters_xling.errors import HubError, XlingError
from adapters_xling.hub import open_hub, plan_pull, plan_push, pull, push
from adapters_xling.model import open_entry
from adapters_xling.spec import Slot, Stack, Use, Warm
from adapters_xling.zoo import Entry, Zoo, attestations
from tests.contract.worlds import NLI, a_run, logits, train_entry, write_backbone
from tests.unit import zoo_samples as samples

real_sleep = time.sleep
numbers = itertools.count()


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(time, "sleep", lambda seconds: real_sleep(min(seconds, 0.02)))
    monkeypatch.setenv("HF_TOKEN", "writer")
    monkeypatch.setattr(HUB, "tokens", {"writer": "write", "reader": "read"})
    monkeypatch.setattr(HUB, "objects", {})
    HUB.requests.clear()
    yield
    HUB.faults.clear()


@pytest.fixture
def repo() -> str:
    """A repository nobody used."""
    return f"me/zoo{next(numbers)}"


@pytest.fixture
def home(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "home", fallbacks=())


@pytest.fixture
def away(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "away", fallbacks=())


@functools.cache
def backbone() -> Path:
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="xling-hub-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_backbone(folder / "tiny")


def files(entry: Entry) -> dict[str, bytes]:
    return {p.relative_to(entry.folder).as_posix(): p.read_bytes() for p in entry.folder.rglob("*") if p.is_file()}


def at_hub(repo: str, branch: str = "main") -> dict[str, bytes]:
    found = HUB.repo(repo, "model")
    return found.commits[found.refs[branch]]


def asked(method: str) -> list[str]:
    return [line for line in HUB.requests if line.startswith(method)]


def cached(repo: str) -> list[Path]:
    folder = Path(os.environ["HF_HOME"]) / "hub" / f"models--{repo.replace('/', '--')}" / "blobs"
    return [path for path in folder.glob("*") if path.is_file()]


# --- there and back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["lora", "pfeiffer", "full"])
def test_push_then_pull_gives_the_same_bytes_and_the_same_logits(case: str, repo: str, home: Zoo, away: Zoo) -> None:
    parent, _ = train_entry(a_run(case, backbone()), home)
    child, expected = train_entry(a_run(case, backbone(), init=Warm(entry=parent.key), seed=1), home)
    done = push(home, child.key, open_hub(f"hf://{repo}"))
    assert [item.key for item in done.items] == [parent.key, child.key] and done.page
    assert len(HUB.repo(repo, "model").commits) == 2  # the one that made the repository, and one for both entries
    assert HUB.repo(repo, "model").private
    taken = pull(away, child.key, open_hub(f"hf://{repo}"))
    assert taken.revision == HUB.repo(repo, "model").refs["main"]
    for entry in (parent, child):
        assert files(away.get(entry.key)) == files(entry)
    assert torch.equal(logits(open_entry(child.key, zoo=away, backbone=backbone()), NLI), expected)
    assert "hf://" in (hub.origin(away, child) or "") and hub.origin(home, child) is None


def test_a_plain_library_takes_a_pushed_entry_from_the_hub_by_the_repositorys_name(repo: str, home: Zoo) -> None:
    import adapters
    from huggingface_hub import snapshot_download
    from peft import PeftModel

    from adapters_xling.model import load_backbone

    def ours(entry: Entry) -> Any:
        return open_entry(entry.key, zoo=home, backbone=backbone()).encoder.eval()

    inputs = {"input_ids": torch.tensor([[0, 5, 6, 7, 2]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    lora, _ = train_entry(a_run("lora", backbone()), home)
    blocks, _ = train_entry(a_run("pfeiffer", backbone()), home)
    push(home, lora.key, open_hub(f"hf://{repo}"))
    push(home, blocks.key, open_hub(f"hf://{repo}-b"))
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(load_backbone(str(backbone())).encoder, repo).eval()
        assert torch.equal(theirs(**inputs).last_hidden_state, ours(lora)(**inputs).last_hidden_state)
        plain = load_backbone(str(backbone())).encoder
        adapters.init(plain)
        folder = snapshot_download(f"{repo}-b")
        plain.load_adapter(folder, use_safetensors=True, set_active=True)
        assert torch.equal(plain.eval()(**inputs).last_hidden_state, ours(blocks)(**inputs).last_hidden_state)


def test_a_second_entry_joins_a_repository_and_the_root_stays_the_first_ones(repo: str, home: Zoo, away: Zoo) -> None:
    first, second = samples.an_entry(home), samples.an_entry(home, samples.a_run("mini-ner"))
    push(home, first.key, open_hub(f"hf://{repo}"), private=False)
    readme = at_hub(repo)["README.md"].decode()
    assert "license: apache-2.0" in readme and f"xling pull {first.key} hf://{repo}" in readme
    HUB.repo(repo, "model").commit({**at_hub(repo), "README.md": readme.replace("# ", "# Mine: ", 1)})
    push(home, "mini-ner", open_hub(f"hf://{repo}"))
    now = at_hub(repo)
    assert json.loads(now["xling.json"]) == {"schema": 1, "entry": first.key}
    assert "# Mine: " in now["README.md"].decode() and f"./{second.key}" in now["README.md"].decode()
    assert pull(away, None, open_hub(f"hf://{repo}")).items[-1].key == first.key
    assert pull(away, "mini-ner-lora-fresh-xlmr-nano", open_hub(f"hf://{repo}")).items[-1].key == second.key
    with pytest.raises(XlingError, match=r"unknown entry 'mini-nlu'.*hf://"):
        pull(away, "mini-nlu", open_hub(f"hf://{repo}"))


def test_pushing_again_uploads_nothing_and_a_plan_says_so(repo: str, home: Zoo) -> None:
    entry = samples.an_entry(home)
    plan = plan_push(home, entry.key, open_hub(f"hf://{repo}"))
    assert plan.num_bytes == entry.card.num_bytes and not plan.items[0].there
    assert plan.items[0].card.licence == "Apache-2.0"
    assert not asked("POST") and not asked("PUT")  # a plan writes nothing
    push(home, entry.key, open_hub(f"hf://{repo}"))
    HUB.requests.clear()
    again = push(home, entry.key, open_hub(f"hf://{repo}"))
    assert again.items[0].there and again.num_bytes == 0 and not asked("POST") and not asked("PUT")


def test_an_entry_whose_files_somebody_changed_is_not_called_published(repo: str, home: Zoo) -> None:
    entry = samples.an_entry(home)
    push(home, entry.key, open_hub(f"hf://{repo}"))
    sound = at_hub(repo)
    for name in ("heads.safetensors", "adapter_config.json"):  # a large file's digest, and one of git's
        path = f"{entry.key}/{name}"
        HUB.repo(repo, "model").commit({**sound, path: sound[path][:-1] + b" "})
        with pytest.raises(HubError, match=rf"is damaged there now: {name}: altered"):
            push(home, entry.key, open_hub(f"hf://{repo}"))
    HUB.repo(repo, "model").commit(sound)
    assert push(home, entry.key, open_hub(f"hf://{repo}")).items[0].there


def test_an_entry_is_never_overwritten(repo: str, home: Zoo, away: Zoo) -> None:
    mine, theirs = samples.an_entry(home), samples.an_entry(away, notes="trained elsewhere")
    assert mine.key == theirs.key
    push(home, mine.key, open_hub(f"hf://{repo}"))
    before = at_hub(repo)
    with pytest.raises(HubError, match=r"with other content than your zoo.*never overwritten"):
        push(away, theirs.key, open_hub(f"hf://{repo}"))
    with pytest.raises(HubError, match="with other content than your zoo"):
        pull(away, mine.key, open_hub(f"hf://{repo}"))
    assert at_hub(repo) == before and away.get(theirs.key).card.notes == "trained elsewhere"


def test_what_stands_on_an_entry_travels_with_it_and_its_root_has_no_native_files(
    repo: str, home: Zoo, away: Zoo
) -> None:
    parent = samples.an_entry(home)
    child = samples.an_entry(home, samples.a_run("mini-ner", under=parent.key))
    assert child.card.run.route == Stack(parts=(Use(entry=parent.key), Slot()))
    push(home, child.key, open_hub(f"hf://{repo}"))
    assert "adapter_config.json" not in at_hub(repo)
    pull(away, child.key, open_hub(f"hf://{repo}"))
    assert away.verify(child.key) == [] == away.verify(parent.key)


def test_a_pull_without_what_an_entry_stands_on_is_refused(repo: str, home: Zoo, away: Zoo) -> None:
    parent = samples.an_entry(home)
    child = samples.an_entry(home, samples.a_run("mini-ner", under=parent.key))
    push(home, child.key, open_hub(f"hf://{repo}"))
    rest = {name: data for name, data in at_hub(repo).items() if not name.startswith(parent.key)}
    HUB.repo(repo, "model").commit(rest)
    with pytest.raises(HubError, match=r"runs on top of .* neither there nor in your zoo"):
        pull(away, child.key, open_hub(f"hf://{repo}"))
    assert away.keys() == ()


def test_attested_scores_travel_in_the_same_commit_and_later_ones_in_one_of_their_own(
    repo: str, home: Zoo, away: Zoo
) -> None:
    entry = samples.an_entry(home)
    home.attest(entry.key, samples.sealed(entry, "sw", created="2026-01-01T00:00:00Z"))
    push(home, entry.key, open_hub(f"hf://{repo}"))
    found = HUB.repo(repo, "model")
    assert len(found.commits) == 2, "the one that made the repository, and one for entry and scores"
    first = found.refs["main"]
    pull(away, entry.key, open_hub(f"hf://{repo}"))
    assert files(away.get(entry.key)) == files(entry) and away.scores(entry.key) == home.scores(entry.key) != ()
    before = at_hub(repo)
    home.attest(entry.key, samples.sealed(entry, "sw", value=70.0, created="2026-02-01T00:00:00Z"))
    assert push(home, entry.key, open_hub(f"hf://{repo}")).page and len(found.commits) == 3
    changed = {name for name, data in at_hub(repo).items() if before.get(name) != data}
    assert changed == {f"{entry.key}/scores.jsonl"}, "the entry stays as it was"
    HUB.requests.clear()
    assert push(home, entry.key, open_hub(f"hf://{repo}")).page is None and not asked("POST")
    pull(away, entry.key, open_hub(f"hf://{repo}"))
    assert [one.score.value for one in away.scores(entry.key)] == [70.0]
    old = Zoo(away.root / "old", fallbacks=())
    pull(old, entry.key, open_hub(f"hf://{repo}@{first}"))
    assert [one.score.value for one in old.scores(entry.key)] == [61.5], "a commit has the scores it had"


def test_scores_that_somebody_changed_are_left_out(
    repo: str, home: Zoo, away: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = samples.an_entry(home)
    home.attest(entry.key, samples.sealed(entry, "sw"))
    push(home, entry.key, open_hub(f"hf://{repo}"))
    pull(away, entry.key, open_hub(f"hf://{repo}"))
    name, found = f"{entry.key}/scores.jsonl", HUB.repo(repo, "model")
    sound, commit = at_hub(repo), found.refs["main"]
    found.commit({**sound, name: sound[name].replace(b"61.5", b"99.5")})
    other = Zoo(away.root / "other", fallbacks=())
    taken = pull(other, entry.key, open_hub(f"hf://{repo}"))
    assert any("left out" in note and "altered after it was written" in note for note in taken.notes)
    assert other.scores(entry.key) == () and other.verify(entry.key) == []
    # lines that are sealed anew, in the very commit that was pulled before
    forged = samples.sealed(entry, "sw", value=99.5)
    found.commits[commit] = {**sound, name: attestations.render(forged)}
    found.refs["main"] = commit
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "fresh"))
    again = pull(away, entry.key, open_hub(f"hf://{repo}"))
    assert any("from that very commit before: somebody rewrote it" in note for note in again.notes)
    assert away.scores(entry.key) == home.scores(entry.key)


def test_two_people_who_attest_at_once_both_have_their_scores_there(
    repo: str, home: Zoo, away: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = samples.an_entry(home)
    push(home, entry.key, open_hub(f"hf://{repo}"))
    pull(away, entry.key, open_hub(f"hf://{repo}"))
    home.attest(entry.key, samples.sealed(entry, "sw"))
    away.attest(entry.key, samples.sealed(entry, "de"))
    place = open_hub(f"hf://{repo}")
    real, raced = place._commit, []  # type: ignore[attr-defined]

    def commit(*args: Any) -> Any:
        if not raced:
            raced.append(1)
            push(away, entry.key, open_hub(f"hf://{repo}"))
        return real(*args)

    monkeypatch.setattr(place, "_commit", commit)
    push(home, entry.key, place)
    third = Zoo(away.root / "third", fallbacks=())
    pull(third, entry.key, open_hub(f"hf://{repo}"))
    assert [one.score.language for one in third.scores(entry.key)] == ["de", "sw"]


# --- revisions ---------------------------------------------------------------------------------------------------


def test_a_pull_reads_one_commit_and_notices_that_the_branch_moves(
    repo: str, home: Zoo, away: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = samples.an_entry(home)
    push(home, entry.key, open_hub(f"hf://{repo}"))
    first = HUB.repo(repo, "model").refs["main"]
    place = open_hub(f"hf://{repo}")
    assert plan_pull(away, entry.key, place).revision == first
    real = place.fetch

    def fetch(*args: Any, **more: Any) -> None:  # in the middle of the pull the branch is moved
        broken = {**at_hub(repo), f"{entry.key}/heads.safetensors": samples.tensors(3, b"\1")}
        HUB.repo(repo, "model").commit(broken)
        real(*args, **more)

    monkeypatch.setattr(place, "fetch", fetch)
    done = pull(away, entry.key, place)
    assert done.revision == first and any("moved to" in note for note in done.notes)
    assert files(away.get(entry.key)) == files(entry)
    # the branch now holds an entry that is not what its card says
    with pytest.raises(XlingError, match=r"heads\.safetensors"):
        pull(Zoo(away.root / "other", fallbacks=()), entry.key, open_hub(f"hf://{repo}"))
    pinned = pull(Zoo(away.root / "third", fallbacks=()), entry.key, open_hub(f"hf://{repo}@{first}"))
    assert pinned.revision == first
    later = plan_pull(away, entry.key, open_hub(f"hf://{repo}"))
    assert any("has moved since the last pull" in note for note in later.notes)


def test_a_commit_that_was_rewritten_is_refused(
    repo: str, home: Zoo, away: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = samples.an_entry(home)
    other = samples.an_entry(Zoo(tmp_path / "other", fallbacks=()), notes="swapped")
    push(home, entry.key, open_hub(f"hf://{repo}"))
    pull(away, entry.key, open_hub(f"hf://{repo}"))
    commit = HUB.repo(repo, "model").refs["main"]
    HUB.repo(repo, "model").commits[commit] = {
        **at_hub(repo),
        **{f"{entry.key}/{name}": data for name, data in files(other).items()},
    }
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "fresh"))
    away.remove(entry.key)
    with pytest.raises(HubError, match="not the one that was pulled from that very commit before"):
        pull(away, entry.key, open_hub(f"hf://{repo}@{commit}"[:-41]))


def test_a_hub_that_answers_with_another_commit_is_refused(repo: str, home: Zoo, away: Zoo) -> None:
    entry = samples.an_entry(home)
    push(home, entry.key, open_hub(f"hf://{repo}"))
    found = HUB.repo(repo, "model")
    commit = found.refs["main"]
    elsewhere = found.commit({**at_hub(repo), "note.txt": "x"}, branch="other")
    place = open_hub(f"hf://{repo}")
    assert place.keys() == (entry.key,)
    found.refs[commit] = elsewhere  # what is asked for by its commit comes from another one
    with pytest.raises(HubError, match="gave it from another commit"):
        pull(away, entry.key, place)
    assert away.keys() == ()


def test_pushing_to_a_branch_and_not_to_a_commit(repo: str, home: Zoo, away: Zoo) -> None:
    entry = samples.an_entry(home)
    found = HUB.repo(repo, "model")
    commit = found.commit({"README.md": "mine\n"})
    found.refs["draft"] = commit
    push(home, entry.key, open_hub(f"hf://{repo}@draft"))
    assert at_hub(repo) == {"README.md": b"mine\n"}
    assert at_hub(repo, "draft")["README.md"] == b"mine\n"  # a README without our list is its owner's
    assert pull(away, entry.key, open_hub(f"hf://{repo}@draft")).revision == found.refs["draft"]
    with pytest.raises(HubError, match="a commit cannot be added to"):
        push(home, entry.key, open_hub(f"hf://{repo}@{commit}"))
    with pytest.raises(HubError, match="has no revision 'nowhere'"):
        push(home, entry.key, open_hub(f"hf://{repo}@nowhere"))


def test_a_branch_of_a_repository_that_is_not_there_is_refused_before_it_is_made(repo: str, home: Zoo) -> None:
    entry = samples.an_entry(home)
    for attempt in (plan_push, push):
        with pytest.raises(HubError, match=rf"without a branch 'draft': push to hf://{repo}, and make"):
            attempt(home, entry.key, open_hub(f"hf://{repo}@draft"))
    with pytest.raises(HubError, match="knows no repository"):
        plan_pull(home, entry.key, open_hub(f"hf://{repo}"))


def test_entries_that_are_pulled_together_are_of_one_commit(
    repo: str, home: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = samples.an_entry(home), samples.an_entry(home, samples.a_run("mini-ner"))
    for entry in (first, second):
        push(home, entry.key, open_hub(f"hf://{repo}"))
    found = HUB.repo(repo, "model")
    real, read = share.api.pull, []

    def pulled(*args: Any, **options: Any) -> Any:
        read.append(real(*args, **options))
        found.commit({"NOTES.md": f"{len(read)}\n"})
        return read[-1]

    monkeypatch.setattr(share.api, "pull", pulled)
    done = CliRunner().invoke(share.pull, [first.key, second.key, f"hf://{repo}", "--runs", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert len({one.revision for one in read}) == 1 and found.refs["main"] != read[0].revision
    assert set(Zoo(tmp_path / "zoo", fallbacks=()).keys()) == {first.key, second.key}


# --- uploads that go wrong ---------------------------------------------------------------------------------------


def test_an_upload_cut_in_the_middle_shows_nothing_and_is_resumed(repo: str, home: Zoo, away: Zoo) -> None:
    entry = samples.an_entry(home)
    large = sorted({f.sha256 for name, f in entry.card.files.items() if name.endswith(".safetensors")})
    assert len(large) == 2
    HUB.fault(f"/upload/{large[1]}", method="PUT", keep=10)
    with pytest.raises(HubError, match="Nothing of the entry is visible there; push again"):
        push(home, entry.key, open_hub(f"hf://{repo}"))
    assert set(at_hub(repo)) == {".gitattributes"}
    with pytest.raises(XlingError, match="unknown entry"):
        pull(away, entry.key, open_hub(f"hf://{repo}"))
    HUB.faults.clear()
    HUB.requests.clear()
    push(home, entry.key, open_hub(f"hf://{repo}"))
    assert asked("PUT") == [f"PUT /upload/{large[1]}"]  # the other one had arrived
    pull(away, entry.key, open_hub(f"hf://{repo}"))
    assert files(away.get(entry.key)) == files(entry)


@pytest.mark.parametrize("where", ["^/upload/", "/commit/main$", "/preupload/main$", "/objects/batch$"])
def test_a_fault_that_passes_is_waited_out_and_one_that_stays_shows_nothing(where: str, repo: str, home: Zoo) -> None:
    entry = samples.an_entry(home)
    HUB.fault(where, status=503, times=2)
    push(home, entry.key, open_hub(f"hf://{repo}"))
    assert f"{entry.key}/card.json" in at_hub(repo)
    HUB.fault(where, status=500)
    stays = samples.an_entry(home, samples.a_run("mini-ner"))
    HUB.objects.clear()
    with pytest.raises(HubError, match=r"answers 500 .*try again later.*Nothing of the entry is visible"):
        push(home, stays.key, open_hub(f"hf://{repo}"))
    assert f"{stays.key}/card.json" not in at_hub(repo)


def test_a_commit_whose_answer_was_lost_is_found_and_not_made_twice(repo: str, home: Zoo) -> None:
    entry = samples.an_entry(home)
    HUB.fault("/commit/main", deaf=True, times=1)
    push(home, entry.key, open_hub(f"hf://{repo}"))
    assert f"{entry.key}/card.json" in at_hub(repo)
    assert len(HUB.repo(repo, "model").commits) == 2


def test_two_pushes_at_once_end_with_both(repo: str, home: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = samples.an_entry(home), samples.an_entry(home, samples.a_run("mini-ner"))
    push(home, first.key, open_hub(f"hf://{repo}"))
    place = open_hub(f"hf://{repo}")
    real = place._commit  # type: ignore[attr-defined]
    raced: list[int] = []

    def commit(*args: Any) -> Any:
        if not raced:
            raced.append(1)
            HUB.repo(repo, "model").commit({**at_hub(repo), "theirs.md": "x"})
        return real(*args)

    monkeypatch.setattr(place, "_commit", commit)
    push(home, second.key, place)
    assert {f"{first.key}/card.json", f"{second.key}/card.json", "theirs.md"} <= set(at_hub(repo))


def test_files_the_hub_would_leave_out_are_refused_before_anything_is_sent(repo: str, home: Zoo) -> None:
    entry = samples.an_entry(home)
    HUB.repo(repo, "model").commit({".gitignore": "*.safetensors\n"})
    with pytest.raises(HubError, match=r"has a \.gitignore"):
        push(home, entry.key, open_hub(f"hf://{repo}"))
    assert not asked("PUT")


# --- who may -----------------------------------------------------------------------------------------------------


def test_tokens(repo: str, home: Zoo, away: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = samples.an_entry(home)
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(HubError, match=r"does not know the token in use \(401\).*settings/tokens.*HF_TOKEN"):
        push(home, entry.key, open_hub(f"hf://{repo}"))
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"no valid token of yours \(401\)"):
        push(home, entry.key, open_hub(f"hf://{repo}"))
    monkeypatch.setenv("HF_TOKEN", "reader")
    with pytest.raises(HubError, match=r"forbids to write to .* \(403\).*write access"):
        push(home, entry.key, open_hub(f"hf://{repo}"))
    assert ("model", repo) not in HUB.repos
    monkeypatch.setenv("HF_TOKEN", "writer")
    push(home, entry.key, open_hub(f"hf://{repo}"), private=True)
    monkeypatch.setenv("HF_TOKEN", "reader")
    with pytest.raises(HubError, match=r"\(403\)"):
        push(home, samples.an_entry(home, samples.a_run("mini-ner")).key, open_hub(f"hf://{repo}"))
    pull(away, entry.key, open_hub(f"hf://{repo}"))  # a reader may read what is private
    assert away.keys() == (entry.key,)


def test_a_private_repository_is_closed_to_strangers(
    repo: str, home: Zoo, away: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = samples.an_entry(home)
    push(home, entry.key, open_hub(f"hf://{repo}"), private=True)
    with pytest.raises(HubError, match="is private, and public was asked for"):
        plan_push(home, entry.key, open_hub(f"hf://{repo}"), private=False)
    with pytest.raises(HubError, match="is private, and public was asked for"):
        push(home, samples.an_entry(home, samples.a_run("mini-ner")).key, open_hub(f"hf://{repo}"), private=False)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"\(401\).*private.*HF_TOKEN"):
        pull(away, entry.key, open_hub(f"hf://{repo}"))
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(HubError, match=r"\(401\)"):
        pull(away, entry.key, open_hub(f"hf://{repo}"))
    assert away.keys() == ()


# --- downloads that go wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, r"refuses .*\(401\).*HF_TOKEN"),
        (403, r"\(403\)"),
        (404, "knows no repository"),
        (503, "answers 503.*try again later"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(status: int, text: str, repo: str, home: Zoo, away: Zoo) -> None:
    entry = samples.an_entry(home)
    push(home, entry.key, open_hub(f"hf://{repo}"))
    HUB.fault(f"/api/models/{repo}", status=status)
    with pytest.raises(HubError, match=text):
        pull(away, entry.key, open_hub(f"hf://{repo}"))
    assert away.keys() == ()


def test_a_file_that_is_listed_but_gone_or_damaged_leaves_nothing(repo: str, home: Zoo, away: Zoo) -> None:
    entry = samples.an_entry(home)
    push(home, entry.key, open_hub(f"hf://{repo}"))
    HUB.fault(r"resolve/.*/heads\.safetensors", status=404)
    with pytest.raises(HubError, match=r"has no file .*heads\.safetensors"):
        pull(away, entry.key, open_hub(f"hf://{repo}"))
    HUB.faults.clear()
    HUB.fault(r"heads\.safetensors|^/large/", keep=40, honest=True)
    with pytest.raises(HubError, match="arrived damaged"):
        pull(away, entry.key, open_hub(f"hf://{repo}"))
    assert away.keys() == () and not list((away.root / ".partial").iterdir())
    HUB.faults.clear()
    pull(away, entry.key, open_hub(f"hf://{repo}"))
    blob = next(path for path in cached(repo) if path.name == entry.card.files["heads.safetensors"].sha256)
    blob.write_bytes(samples.tensors(3, b"\7"))  # damaged on this disk, after it arrived
    other = Zoo(away.root / "other", fallbacks=())
    with pytest.raises(HubError, match="removed from the cache; try again"):
        pull(other, entry.key, open_hub(f"hf://{repo}"))
    pull(other, entry.key, open_hub(f"hf://{repo}"))
    assert files(other.get(entry.key)) == files(entry)


def test_offline_a_pull_reads_the_cache_and_nothing_else(repo: str, home: Zoo, away: Zoo, tmp_path: Path) -> None:
    """In a process that was offline from its start."""
    entry, late = samples.an_entry(home), samples.an_entry(home, samples.a_run("mini-ner"))
    push(home, entry.key, open_hub(f"hf://{repo}"))
    pull(away, entry.key, open_hub(f"hf://{repo}"))
    push(home, late.key, open_hub(f"hf://{repo}"))
    code = f"""
import json
from pathlib import Path
from adapters_xling.hub import open_hub, pull, push
from adapters_xling.errors import XlingError
from adapters_xling.zoo import Zoo
def attempt(ask):
    try:
        return str(ask())
    except XlingError as err:
        return "refused: " + str(err)
zoo = Zoo(Path({str(tmp_path / "third")!r}), fallbacks=())
found = [attempt(lambda: pull(zoo, {entry.key!r}, open_hub("hf://{repo}")).revision)]
found += [attempt(lambda: zoo.verify({entry.key!r}))]
found += [attempt(lambda: pull(zoo, {late.key!r}, open_hub("hf://{repo}")))]
found += [attempt(lambda: pull(zoo, {entry.key!r}, open_hub("hf://me/never")))]
found += [attempt(lambda: push(zoo, {entry.key!r}, open_hub("hf://{repo}")))]
print("FOUND" + json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    revision, problems, missing, never, pushing = json.loads(done.stdout.split("FOUND")[1])
    assert revision in HUB.repo(repo, "model").commits and problems == "[]"
    assert "unknown entry" in missing and "HF_HUB_OFFLINE" in never and "cache holds nothing" in never
    assert pushing.startswith("Journey")  # the cached commit has it: there is nothing to send


# --- adapters of others ------------------------------------------------------------------------------------------


def test_a_plain_peft_repository_becomes_an_entry_at_its_commit(repo: str, home: Zoo, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from adapters_xling.errors import ZooError
    from adapters_xling.importing import import_adapter
    from adapters_xling.model import load_backbone
    from tests.contract.worlds import a_recipe

    model = get_peft_model(load_backbone(str(backbone())).encoder, LoraConfig(r=2, target_modules=["query", "value"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path / "theirs", save_embedding_layers=False)
    theirs = {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()}
    commit = HUB.repo(repo, "model").commit(theirs)
    HUB.repo(repo, "model").commit({**theirs, "adapter_config.json": b"{}"}, branch="later")
    more: dict[str, Any] = {"zoo": home, "backbone": str(backbone()), "recipe": a_recipe()}
    entry = import_adapter(f"hf://{repo}", other_backbone=True, **more)
    assert entry.card.run.init.source == f"hf://{repo}@{commit}"  # type: ignore[union-attr]
    inputs = {"input_ids": torch.tensor([[0, 5, 6, 7, 2]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    with torch.no_grad():
        ours = open_entry(entry.key, zoo=home, backbone=backbone()).encoder(**inputs).last_hidden_state
        assert torch.equal(ours, model.eval()(**inputs).last_hidden_state)
    with pytest.raises(ZooError, match=f"^hf://{repo}@later/adapter_config.json: peft_type is None"):
        import_adapter(f"hf://{repo}@later", other_backbone=True, **more)
    HUB.repo(repo, "model").commit({"adapter_config.json": b"{}", "adapter_model.bin": b"\x80\x04K\x01."})
    HUB.requests.clear()
    with pytest.raises(ZooError, match=r"adapter_model\.bin is pickled"):
        import_adapter(f"hf://{repo}", **more)
    assert not [line for line in HUB.requests if "adapter_model.bin" in line]  # not even fetched
