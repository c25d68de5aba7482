"""Checkpoints of the Hugging Face Hub as local folders."""

import re
from pathlib import Path

from engine.errors import UserError, refusal

_ELSEWHERE = re.compile(r"(?:openclip:)?(?:hf[-_]hub:|hf://(?:models/)?|https?://(?:huggingface\.co|hf\.co)/)(.+)")


def check_notation(spec: str) -> None:
    """UserError for a checkpoint of the hub in the notation of another program."""
    if found := _ELSEWHERE.fullmatch(spec):
        raise UserError(f"{spec} is written as other programs do: write hf:{'/'.join(found[1].split('/')[:2])}.")


def hub_folder(spec: str) -> Path:
    """The local snapshot of ``hf:ORG/NAME`` or ``hf:ORG/NAME@REVISION``, fetched if it is not cached; its folder
    is named by its commit.

    Raises UserError when it is neither cached nor can be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repository, _, revision = spec.removeprefix("hf:").partition("@")
    settings = ["*.json", "*.txt", "*.model", "*.jinja"]
    try:
        folder = Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=[*settings, "*.safetensors"])
        )
        if not any(folder.glob("*.safetensors")):  # older repositories have only files of torch.save
            snapshot_download(repository, revision=revision or None, allow_patterns=["*pytorch_model*.bin"])
    except HFValidationError as error:
        raise UserError(f"{spec} is no repository name: write hf:ORG/NAME.") from error
    except (OSError, HfHubHTTPError) as error:
        raise refusal(error) or UserError(
            f"{spec} is not on this machine and cannot be fetched ({type(error).__name__}): check the name and the "
            "network, or copy the checkpoint here and give its directory."
        ) from error
    return folder
