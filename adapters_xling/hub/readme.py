"""The README of a repository of entries: what its entry says of itself, and the list of what is inside."""

from __future__ import annotations

from collections.abc import Sequence

from adapters_xling.spec import Slot
from adapters_xling.zoo import Entry

README = "README.md"
_BEGIN, _END = "<!-- xling entries -->", "<!-- /xling entries -->"


def repository_readme(readme: str, *, about: Entry, keys: Sequence[str], repo: str, old: bytes | None) -> bytes | None:
    """Write the README of a repository, or bring the list of its entries up to date.

    Args:
        readme: what the entry says of itself, with the YAML block the hub reads.
        about: the entry the repository is about.
        keys: of all entries that will be in it.
        repo: its name.
        old: the README that is there.

    Returns:
        Its bytes; None to leave it as it is, because its owner took the list out.
    """
    listed = "\n".join([_BEGIN, *(f"- [`{key}`](./{key})" for key in keys), _END])
    if old is None:
        return f"{readme}\n{_use(about, repo)}\n## Entries\n\n{listed}\n".encode()
    text = old.decode(errors="replace")
    begin, end = text.find(_BEGIN), text.find(_END)
    if old != text.encode() or not 0 <= begin < end:
        return None
    return (text[:begin] + listed + text[end + len(_END) :]).encode()


def _use(about: Entry, repo: str) -> str:
    """How to get it from this repository."""
    text = f'## From this repository\n\n```\nxling pull {about.key} hf://{repo}\nxling predict {about.key} "…"\n```\n'
    if isinstance(about.card.run.route, Slot):
        text += (
            "\nThe files in the root are the same adapter in its library's own format, for the bare encoder "
            "(without pooling layer); heads are in the entry's folder.\n"
        )
    return text
