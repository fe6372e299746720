"""Shared zoos: entries in a repository of the Hugging Face Hub, in a folder, in a bucket or on a web server."""

from __future__ import annotations

from adapters_xling.hub.address import HUGGING_FACE, Address, hint, parse
from adapters_xling.hub.base import Hub, OnStep
from adapters_xling.hub.transfer import Item, Journey, origin, plan_pull, plan_push, pull, push, scores_origin

__all__ = [
    "Address",
    "Hub",
    "Item",
    "Journey",
    "OnStep",
    "open_hub",
    "origin",
    "parse",
    "plan_pull",
    "plan_push",
    "pull",
    "push",
    "scores_origin",
]


def open_hub(where: str) -> Hub:
    """Open a shared zoo by its address: hf://owner/repository, a folder, s3://…, https://….

    Raises:
        HubError: for an address that is none, or whose protocol needs a package that is not installed.
        UnknownName: for an unknown protocol.
    """
    address = parse(where)
    if address.protocol == HUGGING_FACE:
        from adapters_xling.hub.hugging_face import HuggingFaceHub

        return HuggingFaceHub(address)
    from adapters_xling.hub.filesystem import FileSystemHub

    return FileSystemHub(address, hint=hint(where))
