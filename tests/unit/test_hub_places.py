"""Shared zoos in a folder, in an object store and on a web server."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from zoo_samples import a_run, an_entry, sealed, tensors

from adapters_xling.cli.common import size
from adapters_xling.cli.share import pull as pull_command
from adapters_xling.cli.share import push as push_command
from adapters_xling.errors import HubError, UnknownName, XlingError, ZooError
from adapters_xling.hub import open_hub, origin, parse, plan_pull, plan_push, pull, push
from adapters_xling.hub.filesystem import FileSystemHub
from adapters_xling.zoo import CARD, Entry, Zoo
from adapters_xling.zoo.attestations import SCORES, Attestation


@pytest.fixture
def home(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "home", fallbacks=())


@pytest.fixture
def away(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "away", fallbacks=())


@pytest.fixture(params=["folder", "memory"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "shared") if request.param == "folder" else "memory://shared/zoo"
    if request.param == "memory":
        from fsspec.implementations.memory import MemoryFileSystem

        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status: int | None = None
    keep: int | None = None

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.status is not None:
            self.send_error(self.status)
            return
        if self.keep is not None and self.path.endswith(".safetensors"):
            data = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: self.keep])
            self.close_connection = True
            return
        super().do_GET()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """A web server of the folder `shared`, and its handler, on which faults are set."""
    (tmp_path / "shared").mkdir(exist_ok=True)
    handler = type("Handler", (_Quiet,), {})
    served = functools.partial(handler, directory=str(tmp_path / "shared"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), served)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    server.server_close()
    thread.join()


def files(entry: Entry) -> dict[str, bytes]:
    return {p.relative_to(entry.folder).as_posix(): p.read_bytes() for p in entry.folder.rglob("*") if p.is_file()}


# --- addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "hf://",
        "hf://name",
        "hf://a/b/c",
        "hf://../x",
        "hf://a/..",
        "hf://a/b@",
        "hf://a/b@../../x",
        "hf://a/b@x y",
        "hf://a b/c",
        "s3://",
        "https://me:secret@host/zoo",
        "zip://x::https://host/y.zip",
        "simplecache::s3://b/x",
        "https://host/a::b",
        "github://a:b@c/d",
        "gopher://x/y",
        "reference://x",
        "a\nb",
    ],
)
def test_what_is_no_address_is_refused_with_the_valid_forms(text: str) -> None:
    with pytest.raises(XlingError) as caught:
        open_hub(text)
    assert "secret" not in str(caught.value)


def test_addresses_are_taken_apart() -> None:
    assert (parse("hf://a/b@v1.0").path, parse("hf://a/b@v1.0").revision, str(parse("hf://a/b@v1"))) == (
        "a/b",
        "v1.0",
        "hf://a/b@v1",
    )
    assert parse("zoo").path == str(Path("zoo").absolute()) and parse("~/x").path == str(Path("~/x").expanduser())
    assert parse("s3://bucket/a/").path == "s3://bucket/a"


@pytest.mark.parametrize(
    "text",
    [
        "hf:me/swahili-ner",
        "HF:/me/swahili-ner",
        "https://huggingface.co/me/swahili-ner",
        "https://hf.co/me/swahili-ner/",
    ],
)
def test_what_is_nearly_a_repositorys_address_is_refused_with_the_right_one(text: str) -> None:
    with pytest.raises(HubError, match="write hf://me/swahili-ner"):
        open_hub(text)


def test_a_folder_that_may_have_been_meant_as_a_repository_is_said_to_be_one(
    tmp_path: Path, home: Zoo, away: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = an_entry(home)
    words = "me/swahili-ner is taken for a folder; for the model hub write hf://me/swahili-ner"
    with pytest.raises(HubError, match=rf"is not there.*{words}"):
        pull(away, None, open_hub("me/swahili-ner"))
    assert words in plan_push(home, entry.key, open_hub("me/swahili-ner")).notes
    for plain in ("./me/swahili-ner", "shared", str(tmp_path / "me/swahili-ner")):
        assert not plan_push(home, entry.key, open_hub(plain)).notes
    Path("me").mkdir()
    assert not open_hub("me/swahili-ner").hint and not Path("me/swahili-ner").exists()


def test_a_protocol_whose_package_is_missing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HubError, match="pip install s3fs"):
        open_hub("s3://bucket/zoo")


# --- folders and stores ------------------------------------------------------------------------------------------


def test_push_then_pull_gives_the_same_bytes(where: str, home: Zoo, away: Zoo) -> None:
    parent = an_entry(home)
    child = an_entry(home, a_run("mini-ner", warm=parent.key))
    plan = plan_push(home, child.key, open_hub(where))
    assert [(item.key, item.there) for item in plan.items] == [(parent.key, False), (child.key, False)]
    assert plan.num_bytes == parent.card.num_bytes + child.card.num_bytes
    steps: list[tuple[str, str]] = []
    push(home, child.key, open_hub(where), on_step=lambda key, what, done, total: steps.append((key, what)))
    assert [what for key, what in steps if key == parent.key][-1] == "card.json"  # last
    assert open_hub(where).keys() == tuple(sorted([parent.key, child.key]))
    done = pull(away, "mini-ner", open_hub(where))
    assert [item.key for item in done.items] == [parent.key, child.key]
    for entry in (parent, child):
        assert files(away.get(entry.key)) == files(entry)
    assert origin(away, child) == open_hub(where).where
    again = push(home, child.key, open_hub(where))
    assert again.num_bytes == 0 and all(item.there for item in pull(away, child.key, open_hub(where)).items)


def test_a_pushed_folder_is_a_zoo(tmp_path: Path, home: Zoo) -> None:
    parent = an_entry(home)
    child = an_entry(home, a_run("mini-ner", under=parent.key))
    push(home, child.key, open_hub(str(tmp_path / "shared")))
    shared = Zoo(tmp_path / "shared", fallbacks=())
    assert shared.verify(child.key) == [] == shared.verify(parent.key)


def test_a_push_cut_in_the_middle_shows_nothing_and_goes_on(
    where: str, home: Zoo, away: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = an_entry(home)
    place = open_hub(where)
    real, sent = place._fs.put_file, []  # type: ignore[attr-defined]

    def put_file(source: str, target: str, **more: Any) -> Any:
        sent.append(target)
        if target.endswith("heads.safetensors"):
            place._fs.pipe_file(target, Path(source).read_bytes()[:7])  # type: ignore[attr-defined]
            raise ConnectionResetError("the line broke")
        return real(source, target, **more)

    monkeypatch.setattr(place._fs, "put_file", put_file)  # type: ignore[attr-defined]
    with pytest.raises(HubError, match=r"cannot take .*heads\.safetensors.*the line broke"):
        push(home, entry.key, place)
    assert open_hub(where).keys() == ()
    with pytest.raises(UnknownName):
        pull(away, entry.key, open_hub(where))
    before = list(sent)
    monkeypatch.setattr(place._fs, "put_file", lambda a, b, **more: (sent.append(b), real(a, b, **more)))  # type: ignore[attr-defined]
    push(home, entry.key, place)
    assert len(sent) - len(before) < len(entry.card.files)  # what had arrived whole was not sent again
    pull(away, entry.key, open_hub(where))
    assert files(away.get(entry.key)) == files(entry)


def test_a_card_is_not_written_beside_files_of_somebody_else(where: str, home: Zoo) -> None:
    entry = an_entry(home)
    place = open_hub(where)
    place._fs.makedirs(place._at(entry.key), exist_ok=True)  # type: ignore[attr-defined]
    place._fs.pipe_file(place._at(f"{entry.key}/extra.json"), b"{}")  # type: ignore[attr-defined]
    with pytest.raises(HubError, match=r"extra\.json: not in the card"):
        push(home, entry.key, place)
    assert open_hub(where).keys() == ()


def test_an_entry_is_never_overwritten(where: str, home: Zoo, away: Zoo) -> None:
    mine, theirs = an_entry(home), an_entry(away, notes="trained elsewhere")
    push(home, mine.key, open_hub(where))
    for attempt in (push, pull):
        with pytest.raises(HubError, match="with other content than your zoo"):
            attempt(away, theirs.key, open_hub(where))


def test_an_entry_that_was_damaged_where_it_lies_is_not_called_published(where: str, home: Zoo, away: Zoo) -> None:
    parent = an_entry(home)
    child = an_entry(home, a_run("mini-ner", warm=parent.key))
    push(home, child.key, open_hub(where))
    place = open_hub(where)
    sound = (parent.folder / "heads.safetensors").read_bytes()
    damages = {"bytes, the card says": sound[:-4]}
    if "://" not in where:  # elsewhere the file would have to be read whole to know
        damages["altered"] = sound[:-1] + b"\1"
    for problem, raw in damages.items():
        place._fs.pipe_file(place._at(f"{parent.key}/heads.safetensors"), raw)  # type: ignore[attr-defined]
        for attempt in (plan_push, push):
            with pytest.raises(HubError, match=rf"{parent.key} was published, but is damaged.*{problem}.*push again"):
                attempt(home, child.key, open_hub(where))
        with pytest.raises(XlingError, match="tell the owner"):
            pull(away, parent.key, open_hub(where))
    place._fs.rm(place._at(parent.key), recursive=True)  # type: ignore[attr-defined]
    push(home, child.key, open_hub(where))
    assert [item.there for item in pull(away, child.key, open_hub(where)).items] == [False, False]


def test_names_and_places_that_are_not_there(where: str, home: Zoo, away: Zoo) -> None:
    with pytest.raises(HubError, match="is not there"):
        pull(away, "anything", open_hub(where))
    first, second = an_entry(home), an_entry(home, a_run(seed=1))
    push(home, first.key, open_hub(where))
    assert pull(away, None, open_hub(where)).items[0].key == first.key
    push(home, second.key, open_hub(where))
    with pytest.raises(HubError, match=r"holds 2 entries, name one"):
        pull(away, None, open_hub(where))
    with pytest.raises(HubError, match=r"'mini-nli' means 2 entries"):
        pull(away, "mini-nli", open_hub(where))
    with pytest.raises(UnknownName, match=r"unknown entry 'mini-nlu'"):
        pull(away, "mini-nlu", open_hub(where))
    with pytest.raises(UnknownName):
        push(home, "nothing", open_hub(where))
    with pytest.raises(HubError, match="leave --private and --public out"):
        push(home, an_entry(home, a_run(seed=2)).key, open_hub(where), private=True)


def test_two_who_push_the_same_run_at_once_leave_one_whole_entry(
    tmp_path: Path, home: Zoo, away: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = an_entry(home), an_entry(away, notes="trained elsewhere")
    shared = str(tmp_path / "shared")
    place = open_hub(shared)
    real = place.check_sizes

    def check_sizes(card: Any) -> None:  # the other one comes in after this one has looked
        real(card)
        push(away, theirs.key, open_hub(shared))

    monkeypatch.setattr(place, "check_sizes", check_sizes)
    with pytest.raises(HubError, match="published by somebody else meanwhile"):
        push(home, mine.key, place)
    assert (tmp_path / "shared" / theirs.key / CARD).read_bytes() == (theirs.folder / CARD).read_bytes()


def test_files_that_another_one_wrote_over_are_not_published(
    tmp_path: Path, home: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, shared = an_entry(home), tmp_path / "shared"
    place = open_hub(str(shared))
    real = place.check_sizes

    def check_sizes(card: Any) -> None:
        (shared / entry.key / "heads.safetensors").write_bytes(tensors(3, b"\1"))
        real(card)

    monkeypatch.setattr(place, "check_sizes", check_sizes)
    with pytest.raises(HubError, match=r"heads\.safetensors was written by somebody else"):
        push(home, entry.key, place)
    assert open_hub(str(shared)).keys() == ()


def test_origins_that_cannot_be_read_are_kept_and_others_untouched(tmp_path: Path, home: Zoo, away: Zoo) -> None:
    first, second = an_entry(home), an_entry(home, a_run("mini-pos"))
    shared = str(tmp_path / "shared")
    for entry in (first, second):
        push(home, entry.key, open_hub(shared))
    notes = away.root / ".pulled.json"
    away.root.mkdir(parents=True)
    notes.write_text('{"of-a-later-version": {"where": "x", "more": 1}}')
    pull(away, first.key, open_hub(shared))
    assert '"more": 1' in notes.read_text() and origin(away, first)
    notes.write_text('{"half a fil')
    pull(away, second.key, open_hub(shared))
    assert origin(away, second) and origin(away, first) is None
    (aside,) = away.root.glob(".pulled.json.unreadable-*")
    assert aside.read_text() == '{"half a fil' and set(away.keys()) == {first.key, second.key}


def test_a_damaged_entry_is_not_pushed(where: str, home: Zoo) -> None:
    entry = an_entry(home)
    (entry.folder / "heads.safetensors").write_bytes(tensors(3, b"\1"))
    with pytest.raises(XlingError, match="altered"):
        push(home, entry.key, open_hub(where))


def test_an_unknown_licence_is_pointed_out(where: str, home: Zoo) -> None:
    entry = an_entry(home, licence="unknown")
    assert any("licence of" in note and "unknown" in note for note in plan_push(home, entry.key, open_hub(where)).notes)


def test_a_parent_that_is_gone_is_a_note_unless_the_entry_runs_on_it(where: str, home: Zoo, away: Zoo) -> None:
    parent = an_entry(home)
    warm, under = an_entry(home, a_run("a", warm=parent.key)), an_entry(home, a_run("b", under=parent.key))
    home.remove(parent.key, force=True)
    done = push(home, warm.key, open_hub(where))
    assert any("started from" in note for note in done.notes)
    assert any("started from" in note for note in pull(away, warm.key, open_hub(where)).notes)
    with pytest.raises(XlingError, match="runs on top of"):
        push(home, under.key, open_hub(where))


def test_links_in_a_shared_folder_are_not_followed(tmp_path: Path, home: Zoo, away: Zoo) -> None:
    entry = an_entry(home)
    shared = tmp_path / "shared"
    push(home, entry.key, open_hub(str(shared)))
    secret = tmp_path / "secret"
    for name in ("heads.safetensors", "card.json"):
        real = (shared / entry.key / name).read_bytes()
        secret.write_bytes(real)
        (shared / entry.key / name).unlink()
        (shared / entry.key / name).symlink_to(secret)
        with pytest.raises(HubError, match="is a symbolic link"):
            pull(away, entry.key, open_hub(str(shared)))
        (shared / entry.key / name).unlink()
        (shared / entry.key / name).write_bytes(real)
    moved = tmp_path / "moved"
    shutil.move(shared / entry.key, moved)
    (shared / entry.key).symlink_to(moved)
    with pytest.raises(HubError, match="is a symbolic link"):
        pull(away, entry.key, open_hub(str(shared)))
    assert away.keys() == ()


def test_a_folder_one_may_not_write_is_said_to_be_one(
    tmp_path: Path, home: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_hub(str(tmp_path / "closed"))

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(place._fs, "makedirs", refuse)  # type: ignore[attr-defined]
    with pytest.raises(HubError, match="access is refused"):
        push(home, an_entry(home).key, place)


# --- attested scores ---------------------------------------------------------------------------------------------

OLD, LATER = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def values(lines: Iterable[Attestation]) -> dict[str, float]:
    return {one.score.language: one.score.value for one in lines}


def write(where: str, name: str, data: bytes) -> None:
    place = open_hub(where)
    place._fs.pipe_file(place._at(name), data)  # type: ignore[attr-defined]


def test_attested_scores_travel_with_their_entry_and_its_parents(where: str, home: Zoo, away: Zoo) -> None:
    parent = an_entry(home)
    child = an_entry(home, a_run("mini-ner", warm=parent.key))
    home.attest(parent.key, sealed(parent, "sw", "de"))
    plan = plan_push(home, child.key, open_hub(where))
    assert [len(item.side.new) for item in plan.items] == [2, 0]
    push(home, child.key, open_hub(where))
    assert [len(item.side.new) for item in plan_pull(away, child.key, open_hub(where)).items] == [2, 0]
    assert away.keys() == ()
    pull(away, child.key, open_hub(where))
    assert away.scores(parent.key) == home.scores(parent.key) != () == away.scores(child.key)
    assert files(away.get(parent.key)) == files(parent) and away.verify(parent.key) == []


def test_scores_attested_later_join_an_entry_that_is_there(where: str, home: Zoo, away: Zoo) -> None:
    entry = an_entry(home)
    push(home, entry.key, open_hub(where))
    pull(away, entry.key, open_hub(where))
    assert away.scores(entry.key) == (), "an entry without scores is whole"
    card = open_hub(where).card_bytes(entry.key)
    home.attest(entry.key, sealed(entry, "sw", created=OLD))
    done = push(home, entry.key, open_hub(where))
    assert done.items[0].there and len(done.items[0].side.new) == 1 and done.page
    assert open_hub(where).card_bytes(entry.key) == card == (entry.folder / CARD).read_bytes()
    assert values(pull(away, entry.key, open_hub(where)).items[0].side.new) == {"sw": 61.5}
    home.attest(entry.key, sealed(entry, "sw", value=70.0, created=LATER))
    push(home, entry.key, open_hub(where))
    assert push(home, entry.key, open_hub(where)).page is None, "nothing is left to send"
    pull(away, entry.key, open_hub(where))
    assert values(away.scores(entry.key)) == {"sw": 70.0} and away.scores(entry.key) == home.scores(entry.key)
    assert origin(away, entry) == open_hub(where).where and origin(home, entry) is None


def test_scores_of_two_people_add_up_and_the_later_measurement_stays(where: str, home: Zoo, away: Zoo) -> None:
    entry = an_entry(home)
    push(home, entry.key, open_hub(where))
    pull(away, entry.key, open_hub(where))
    home.attest(entry.key, sealed(entry, "sw", "de", created=LATER))
    away.attest(entry.key, [*sealed(entry, "sw", value=50.0, created=OLD), *sealed(entry, "ar", value=40.0)])
    push(home, entry.key, open_hub(where))
    done = push(away, entry.key, open_hub(where))
    assert any("1 scores of" in note and "measured later than yours and stay" in note for note in done.notes)
    third = Zoo(away.root / "third", fallbacks=())
    pull(third, entry.key, open_hub(where))
    assert values(third.scores(entry.key)) == {"ar": 40.0, "de": 61.5, "sw": 61.5}
    taken = pull(away, entry.key, open_hub(where))
    assert any("1 scores of" in note and "differ from yours, which stay" in note for note in taken.notes)
    assert values(away.scores(entry.key)) == {"ar": 40.0, "de": 61.5, "sw": 50.0}, "one's own are not replaced"


def test_a_score_of_ones_own_does_not_stop_those_that_were_pulled_from_being_updated(
    where: str, home: Zoo, away: Zoo
) -> None:
    entry = an_entry(home)
    home.attest(entry.key, sealed(entry, "sw", "de", created=OLD))
    push(home, entry.key, open_hub(where))
    pull(away, entry.key, open_hub(where))
    away.attest(entry.key, [*sealed(entry, "ar", value=40.0), *sealed(entry, "de", value=50.0)])
    home.attest(entry.key, sealed(entry, "sw", "de", "hi", value=70.0, created=LATER))
    push(home, entry.key, open_hub(where))
    for more in ((), ("sw", "tr")):  # and once more: what came from there is known after the second pull too
        if more:
            home.attest(entry.key, sealed(entry, *more, value=80.0))
            push(home, entry.key, open_hub(where))
        taken = pull(away, entry.key, open_hub(where))
        assert any("1 scores of" in note and "differ from yours, which stay" in note for note in taken.notes)
        assert values(away.scores(entry.key)) == {"ar": 40.0, "de": 50.0, "sw": 70.0, "hi": 70.0} | dict.fromkeys(
            more, 80.0
        )


def test_scores_from_a_second_place_are_updated_from_there(where: str, home: Zoo, away: Zoo, tmp_path: Path) -> None:
    """They were called one's own from the second pull on, and stayed as they were."""
    other, elsewhere = Zoo(tmp_path / "other", fallbacks=()), str(tmp_path / "elsewhere")
    entry = an_entry(home)
    push(home, entry.key, open_hub(where))
    pull(away, entry.key, open_hub(where))
    pull(other, entry.key, open_hub(where))
    other.attest(entry.key, sealed(entry, "sw", value=50.0, created=OLD))
    push(other, entry.key, open_hub(elsewhere))
    pull(away, entry.key, open_hub(elsewhere))
    other.attest(entry.key, sealed(entry, "sw", value=60.0, created=LATER))
    push(other, entry.key, open_hub(elsewhere))
    taken = pull(away, entry.key, open_hub(elsewhere))
    assert values(away.scores(entry.key)) == {"sw": 60.0} and not any("yours" in note for note in taken.notes)
    away.attest(entry.key, sealed(entry, "sw", value=70.0))
    pull(away, entry.key, open_hub(elsewhere))
    assert values(away.scores(entry.key)) == {"sw": 70.0}, "one's own stay"


@pytest.mark.parametrize("kind", ["edited", "of another entry", "no lines", "huge"])
def test_scores_that_are_not_sound_are_left_out_with_a_reason(
    kind: str, where: str, home: Zoo, away: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, other = an_entry(home), an_entry(home, a_run("mini-pos"))
    home.attest(entry.key, sealed(entry, "sw"))
    home.attest(other.key, sealed(other, "sw"))
    push(home, entry.key, open_hub(where))
    lines = (entry.folder / SCORES).read_bytes()
    bad = {
        "edited": lines.replace(b"61.5", b"99.5"),
        "of another entry": (other.folder / SCORES).read_bytes(),
        "no lines": b"<html>not found</html>",
        "huge": lines,
    }[kind]
    if kind == "huge":
        for module in ("attestations", "filesystem"):
            package = "zoo" if module == "attestations" else "hub"
            monkeypatch.setattr(f"adapters_xling.{package}.{module}.MAX_BYTES", 10)
    write(where, f"{entry.key}/{SCORES}", bad)
    done = pull(away, entry.key, open_hub(where))
    (note,) = [note for note in done.notes if "are left out" in note]
    assert SCORES in note and "Tell the owner" in note
    assert not (away.get(entry.key).folder / SCORES).exists() and away.verify(entry.key) == []
    if kind == "huge":
        return
    again = push(home, entry.key, open_hub(where))
    assert again.page is None and any("are not sound" in note and "Remove" in note for note in again.notes)
    assert open_hub(where).scores_bytes(entry.key) == bad, "what somebody else wrote is not overwritten"


def test_damaged_scores_of_ones_own_are_not_pushed(where: str, home: Zoo) -> None:
    entry = an_entry(home)
    home.attest(entry.key, sealed(entry, "sw"))
    path = entry.folder / SCORES
    path.write_bytes(path.read_bytes().replace(b"61.5", b"99.5"))
    with pytest.raises(ZooError, match="altered after it was written"):
        push(home, entry.key, open_hub(where))
    with pytest.raises(HubError, match="is not there"):
        open_hub(where).keys()


def test_scores_that_lie_there_before_their_entry_do_not_become_its_own(where: str, home: Zoo, away: Zoo) -> None:
    entry = an_entry(home)
    claimed = an_entry(away)
    away.attest(claimed.key, sealed(claimed, "sw", value=100.0))
    place = open_hub(where)
    place._fs.makedirs(place._at(entry.key), exist_ok=True)  # type: ignore[attr-defined]
    write(where, f"{entry.key}/{SCORES}", (claimed.folder / SCORES).read_bytes())
    with pytest.raises(HubError, match="lies there without its entry"):
        push(home, entry.key, open_hub(where))
    home.attest(entry.key, sealed(entry, "sw", created=OLD))
    push(home, entry.key, open_hub(where))
    assert open_hub(where).scores_bytes(entry.key) == (entry.folder / SCORES).read_bytes()


def test_read_only_entries_and_damaged_scores_here_take_none(where: str, home: Zoo, away: Zoo, tmp_path: Path) -> None:
    entry = an_entry(home)
    push(home, entry.key, open_hub(where))
    pull(away, entry.key, open_hub(where))
    home.attest(entry.key, sealed(entry, "sw"))
    push(home, entry.key, open_hub(where))
    mine = Zoo(tmp_path / "mine", fallbacks=(away.root,))
    assert any("is read-only" in note for note in pull(mine, entry.key, open_hub(where)).notes)
    (away.get(entry.key).folder / SCORES).write_bytes(b"{}\n")
    assert any("yours are not sound" in note for note in pull(away, entry.key, open_hub(where)).notes)
    assert (away.get(entry.key).folder / SCORES).read_bytes() == b"{}\n"


def test_a_link_in_the_place_of_scores_is_not_followed(tmp_path: Path, home: Zoo, away: Zoo) -> None:
    entry, shared = an_entry(home), str(tmp_path / "shared")
    home.attest(entry.key, sealed(entry, "sw"))
    push(home, entry.key, open_hub(shared))
    there = tmp_path / "shared" / entry.key / SCORES
    secret = tmp_path / "secret"
    secret.write_bytes(there.read_bytes())
    there.unlink()
    there.symlink_to(secret)
    home.attest(entry.key, sealed(entry, "de"))
    for attempt in (lambda: pull(away, entry.key, open_hub(shared)), lambda: push(home, entry.key, open_hub(shared))):
        try:
            assert any("symbolic link" in note for note in attempt().notes)
        except HubError as err:
            assert "symbolic link" in str(err)
    assert secret.read_bytes() == there.read_bytes() and there.is_symlink()


# --- the web -----------------------------------------------------------------------------------------------------


def test_a_web_server_is_a_zoo_to_read(tmp_path: Path, home: Zoo, away: Zoo, web: tuple[str, Any]) -> None:
    url, _ = web
    parent = an_entry(home)
    child = an_entry(home, a_run("mini-ner", warm=parent.key))
    push(home, child.key, open_hub(str(tmp_path / "shared")))
    assert open_hub(url).keys() == tuple(sorted([parent.key, child.key]))
    assert plan_pull(away, "mini-ner", open_hub(url)).num_bytes == parent.card.num_bytes + child.card.num_bytes
    pull(away, "mini-ner", open_hub(url))
    for entry in (parent, child):
        assert files(away.get(entry.key)) == files(entry)
    home.attest(parent.key, sealed(parent, "sw"))
    push(home, parent.key, open_hub(str(tmp_path / "shared")))
    pull(away, "mini-ner", open_hub(url))
    assert away.scores(parent.key) == home.scores(parent.key) != ()
    with pytest.raises(HubError, match="can only be read"):
        push(home, an_entry(home, a_run(seed=5)).key, open_hub(url))


def test_a_web_server_that_lists_nothing_still_gives_what_is_named_in_full(
    tmp_path: Path, home: Zoo, away: Zoo, web: tuple[str, Any]
) -> None:
    url, _ = web
    entry = an_entry(home)
    push(home, entry.key, open_hub(str(tmp_path / "shared")))
    (tmp_path / "shared" / "index.html").write_text("<html>nothing here</html>")
    assert pull(away, entry.key, open_hub(url)).items[0].key == entry.key
    with pytest.raises(XlingError, match="unknown entry"):
        pull(away, "mini-nli", open_hub(url))


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"status": 401}, "access is refused"),
        ({"status": 403}, "access is refused"),
        ({"status": 404}, "not there|unknown entry"),
        ({"status": 500}, "answers 500"),
        ({"keep": 5}, r"\.safetensors"),
    ],
)
def test_faults_of_a_web_server_leave_nothing(
    fault: dict[str, int], text: str, tmp_path: Path, home: Zoo, away: Zoo, web: tuple[str, Any]
) -> None:
    url, handler = web
    entry = an_entry(home)
    push(home, entry.key, open_hub(str(tmp_path / "shared")))
    for name, value in fault.items():
        setattr(handler, name, value)
    with pytest.raises(XlingError, match=text):
        pull(away, entry.key, open_hub(url))
    assert away.keys() == ()


def test_a_server_that_is_gone_is_said_to_be(away: Zoo) -> None:
    key = "mini-nli-lora-fresh-xlmr-nano-s0-0123456789abcdef"
    with pytest.raises(HubError, match=r"cannot be reached.*in your zoo stays usable"):
        pull(away, key, open_hub("http://127.0.0.1:9/zoo"))


# --- the command line --------------------------------------------------------------------------------------------


def test_a_push_of_several_that_breaks_off_says_what_was_published(tmp_path: Path) -> None:
    runs, shared = tmp_path / "runs", tmp_path / "shared"
    zoo = Zoo(runs / "zoo", fallbacks=())
    first, second = an_entry(zoo), an_entry(zoo, a_run("mini-ner"))
    real = FileSystemHub.publish

    def publish(self: FileSystemHub, entries: Sequence[Entry], **options: Any) -> str:
        if entries[-1].key == second.key:
            raise HubError("the disk is full")
        return real(self, entries, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileSystemHub, "publish", publish)
        broken = CliRunner().invoke(push_command, [first.key, second.key, str(shared), "--runs", str(runs)])
    assert isinstance(broken.exception, HubError)
    assert f"pushed {size(first.card.num_bytes)}: {shared}" in broken.stdout
    assert f"published: {first.key}; not finished: {second.key}" in broken.stderr
    assert Zoo(shared, fallbacks=()).keys() == (first.key,)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, other, shared = tmp_path / "runs", tmp_path / "other", str(tmp_path / "shared")
    zoo = Zoo(runs / "zoo", fallbacks=())
    parent = an_entry(zoo)
    child = an_entry(zoo, a_run("mini-ner", warm=parent.key))
    run = CliRunner()
    plan = run.invoke(push_command, [child.key, shared, "--dry-run", "--runs", str(runs)])
    assert plan.exit_code == 0, plan.output
    assert "would push" in plan.output and "Apache-2.0" in plan.output and parent.key in plan.output
    assert not Path(shared).exists()
    for option in ("--private", "--public"):
        refused = run.invoke(push_command, [child.key, shared, "--dry-run", option, "--runs", str(runs)])
        assert "leave --private and --public out" in str(refused.exception), "a dry run says what the push would"
    done = run.invoke(push_command, [parent.key, child.key, shared, "--runs", str(runs)])
    assert done.exit_code == 0 and "pushed" in done.output and child.key in done.output
    listed = run.invoke(pull_command, ["mini-ner", shared, "--dry-run", "--json", "--runs", str(other)])
    assert listed.exit_code == 0 and '"there": false' in listed.output
    taken = run.invoke(pull_command, ["mini-ner", shared, "--runs", str(other)])
    assert taken.exit_code == 0, taken.output
    assert Zoo(other / "zoo", fallbacks=()).get(child.key).card == child.card
    again = run.invoke(pull_command, ["mini-ner", shared, "--runs", str(other)])
    assert "there already" in again.output and "scores" not in again.output
    zoo.attest(child.key, sealed(child, "sw", "de"))
    more = run.invoke(push_command, [child.key, shared, "--runs", str(runs)])
    assert "there already, 2 scores" in more.output and "pushed 0 B and 2 attested scores" in more.output
    listed = run.invoke(pull_command, ["mini-ner", shared, "--dry-run", "--json", "--runs", str(other)])
    assert '"scores": 2' in listed.output and not Zoo(other / "zoo", fallbacks=()).scores(child.key)
