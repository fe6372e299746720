"""The README of a repository of entries: a head the model hub understands, and the list of what is inside."""

from __future__ import annotations

import re
from collections.abc import Sequence

from adapters_xling.spec import Slot
from adapters_xling.zoo import Card

README = "README.md"
_BEGIN, _END = "<!-- xling entries -->", "<!-- /xling entries -->"
_LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc0-1.0", "unknown")
"""Names of licences that the hub knows under the name they have on cards, in lower case."""
_HUB_REPO = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def repository_readme(card: Card, *, about: str, keys: Sequence[str], repo: str, old: bytes | None) -> bytes | None:
    """Write the README of a repository, or bring the list of its entries up to date.

    Args:
        card: of the entry that is being pushed.
        about: key of the entry the repository is about.
        keys: of all entries that will be in it.
        repo: its name.
        old: the README that is there.

    Returns:
        Its bytes; None to leave it as it is, because its owner took the list out.
    """
    listed = "\n".join([_BEGIN, *(f"- [`{key}`](./{key})" for key in keys), _END])
    if old is None:
        return f"{_described(card, about, repo)}\n## Entries\n\n{listed}\n".encode()
    text = old.decode(errors="replace")
    begin, end = text.find(_BEGIN), text.find(_END)
    if old != text.encode() or not 0 <= begin < end:
        return None
    return (text[:begin] + listed + text[end + len(_END) :]).encode()


def _described(card: Card, about: str, repo: str) -> str:
    """What the entry is, for the hub and for people."""
    return f"{_head(card)}\n{_body(card, about, repo)}"


def _head(card: Card) -> str:
    """YAML the hub reads: licence, backbone, tags."""
    licence = card.licence.strip()
    known = licence.lower() in _LICENCES
    lines = ["---", f"license: {licence.lower() if known else 'other'}"]
    if not known:
        lines.append(f"license_name: {_quoted(licence or 'unknown')}")
    if card.run.backbone.repo != "local" and _HUB_REPO.fullmatch(card.run.backbone.repo):
        lines.append(f"base_model: {card.run.backbone.repo}")
    lines += ["library_name: adapters_xling", "tags:", "- adapters_xling", f"- {_quoted(card.run.method.name)}"]
    lines += [f"- {_quoted(task.name)}" for task in card.run.tasks]
    return "\n".join([*lines, "---", ""])


def _body(card: Card, about: str, repo: str) -> str:
    training = card.training
    score = f" Dev {training.metric}: {training.dev_score:.1f} %." if training else ""
    text = (
        f"# {repo}\n\n"
        f"`{about}`: {card.run.method.name} on {card.run.backbone.name}, trained on {card.run.task}.{score} "
        f"Licence: {card.licence}. Everything else about it stands in `{about}/card.json`.\n\n"
        f'```\nxling pull {about} hf://{repo}\nxling predict {about} "…"\n```\n'
    )
    if isinstance(card.run.route, Slot):
        text += (
            "\nThe files in the root are the same adapter in its library's own format, for the bare encoder "
            "(without pooling layer); heads are in the entry's folder.\n"
        )
    return text


def _quoted(text: str) -> str:
    return '"' + re.sub(r'[\x00-\x1f"\\]', " ", text) + '"'
