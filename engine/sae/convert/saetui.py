"""saetui's own format, as it stands outside a workspace: ``config.json`` and ``sae.safetensors``."""

from pathlib import Path

from engine.config import RecogniseSettings
from engine.errors import UserError
from engine.files import read_json
from engine.records import to_json
from engine.sae.config import CONFIG, FORMAT, WEIGHTS
from engine.sae.convert.format import EVERY, OURS, Foreign, Format, Said, Written, brought_back, kept, register
from engine.sae.model import SAE


@register
class Saetui(Format):
    NAME = OURS
    HOLDS = EVERY
    LOADS = 'from engine import SAE\nsae = SAE.load("FOLDER")'

    def find(self, path: Path) -> Path | None:
        folder = path if path.is_dir() else path.parent
        file = folder / WEIGHTS
        if path not in (folder, file) or not file.is_file() or not (folder / CONFIG).is_file():
            return None
        if folder.resolve().parent.name == "saes":  # of a workspace, where it is used as it is
            return None
        try:
            said = read_json(folder / CONFIG)
        except UserError:
            return None
        return file if isinstance(said, dict) and said.get("format") == FORMAT else None

    def read(self, file: Path, settings: RecogniseSettings) -> Foreign:
        sae = SAE.load(file.parent)
        config = sae.config
        weights = {name: one.data for name, one in sae.named_parameters()}
        foreign = Foreign(
            arch=config.arch, weights=weights, k=config.k, groups=config.groups, said=to_json(config.provenance)
        )
        return brought_back(foreign, kept(config))

    def write(self, sae: SAE, said: Said, folder: Path) -> Written:
        sae.save(folder)
        return Written((CONFIG, WEIGHTS))
