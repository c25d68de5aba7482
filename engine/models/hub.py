"""Checkpoints of the Hugging Face Hub as local folders."""

import re
from pathlib import Path

from engine.errors import UserError, refusal
from engine.files import path_of

_ELSEWHERE = re.compile(r"(?:openclip:)?(?:hf[-_]hub:|hf://(?:models/)?|https?://(?:huggingface\.co|hf\.co)/)(.+)")


def check_notation(spec: str) -> None:
    """UserError for a checkpoint of the hub in the notation of another program."""
    if _ELSEWHERE.fullmatch(spec):
        raise UserError(f"{spec} is written as other programs do: write {hub_notation(spec)}.")


def is_notation(spec: str) -> bool:
    """Whether ``spec`` is written as models are here; of a path, that it is whole, or there is something."""
    known = spec in ("demo", "demo:encoder") or spec.startswith(("hf:", "openclip:"))
    return known or path_of(spec).is_absolute() or (not _ELSEWHERE.fullmatch(spec) and path_of(spec).exists())


def hub_notation(name: str) -> str:
    """What a model that another program calls ``name`` probably is here."""
    found = _ELSEWHERE.fullmatch(name)
    repository = "/".join((found[1] if found else name).split("/")[:2])
    return f"hf:{repository}" if "/" in repository else "hf:REPO"


def hub_folder(spec: str) -> Path:
    """The local snapshot of ``hf:ORG/NAME`` or ``hf:ORG/NAME@REVISION``, fetched if it is not cached; its folder
    is named by its commit.

    Raises UserError when it is neither cached nor can be fetched.
    """
    repository, _, revision = spec.removeprefix("hf:").partition("@")
    folder = _snapshot(spec, repository, revision, ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"])
    if not any(folder.glob("*.safetensors")):  # older repositories have only files of torch.save
        _snapshot(spec, repository, revision, ["*pytorch_model*.bin"])
    return folder


def cached_folder(spec: str) -> Path:
    """The local snapshot of ``hf:ORG/NAME[@REVISION]``; the hub is not asked. UserError where there is none."""
    repository, _, revision = spec.removeprefix("hf:").partition("@")
    try:
        return _snapshot(spec, repository, revision, ["*.json"], fetch=False)
    except UserError as error:
        raise UserError(f"{spec} is not on this machine: the first question fetches it.") from error


def _snapshot(spec: str, repository: str, revision: str, patterns: list[str], fetch: bool = True) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(
            snapshot_download(
                repository, revision=revision or None, allow_patterns=patterns, local_files_only=not fetch
            )
        )
    except HFValidationError as error:
        raise UserError(f"{spec} is no repository name: write hf:ORG/NAME.") from error
    except (OSError, HfHubHTTPError) as error:
        if not fetch:
            raise UserError(f"{spec} is not on this machine: saetui import fetches it, and asks then.") from error
        raise refusal(error) or UserError(
            f"{spec} is not on this machine and cannot be fetched ({type(error).__name__}): check the name and the "
            "network, or copy the checkpoint here and give its directory."
        ) from error


def hub_sae(spec: str, fetch: bool = True) -> Path:
    """The local folder of ``hf:ORG/NAME[/FOLDER][@REVISION]`` with the weights of an SAE, fetched if not cached.
    ``fetch``: whether it may be; else the hub is not asked.

    UserError where a repository has them in folders and none is named: they may be many, of gigabytes each.
    """
    path, _, revision = spec.removeprefix("hf:").partition("@")
    owner, name, folder = (*path.strip("/").split("/", 2), "", "")[:3]
    if not name:
        raise UserError(f"{spec} is no repository name: write hf:ORG/NAME[/FOLDER].")
    wanted = [f"{folder}/{kind}" for kind in _OF_SAES] if folder else list(_OF_SAES)
    if fetch and not folder:
        wanted = _at_the_top(spec, f"{owner}/{name}", revision)
    place = _snapshot(spec, f"{owner}/{name}", revision, wanted, fetch) / folder
    if not place.is_dir():
        raise UserError(f"{owner}/{name} has no folder {folder}: look at its files on the hub.")
    return place


_OF_SAES = ("*.json", "*.safetensors", "*.pt")


def _at_the_top(spec: str, repository: str, revision: str) -> list[str]:
    """The files of an SAE that are in no folder; all where the hub cannot be asked, and what is cached will do."""
    from huggingface_hub import list_repo_files

    try:
        files = list_repo_files(repository, revision=revision or None)
    except Exception:  # what its client raises without a network depends on the client; who fetches says what is wrong
        return list(_OF_SAES)
    weights = [file for file in files if file.endswith((".safetensors", ".pt"))]
    if weights and not any("/" not in file for file in weights):
        folders = sorted({file.rpartition("/")[0] for file in weights})
        raise UserError(f"{spec} has its weights in folders: give hf:{repository}/FOLDER, one of {_some(folders)}.")
    return [file for file in files if "/" not in file and file.endswith((".json", ".safetensors", ".pt"))]


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def check_is_notation(model: str) -> None:
    """UserError for a model that is named as elsewhere, with what it may be here."""
    if not is_notation(model):
        raise UserError(
            f"There is no model at {model}: give --model {hub_notation(model)}, openclip:ARCH/TAG or a local folder."
        )
