"""The kinds of artefacts, each described once: where in a workspace they lie, and what tells one.

What reads an artefact of a kind is in ``engine.artefacts.kinds``.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kind:
    """A kind of artefact."""

    name: str
    """By which ``engine.workspace.Source`` tells what another artefact was made from."""
    folder: str
    """Of the workspace, in which they lie."""
    words: str
    """What one is called."""
    suffix: str = ""
    """Of its file; empty where an artefact is a folder."""
    marks: tuple[str, ...] = ()
    """What lies in such a folder: one of them tells it."""
    appended: bool = False
    """Whether its files are appended to."""
    second: bool = False
    """Whether the names are those of others, as of the SAE and images that something was measured on: where an artefact
    of another kind has the name, it keeps it, and this one is told by its folder too."""

    def place(self, root: Path, name: str) -> Path:
        """Where in the workspace ``root`` the artefact of that name lies, the ``suffix`` given or not."""
        return root / self.folder / (name if name.endswith(self.suffix) else name + self.suffix)

    def name_of(self, path: Path) -> str:
        return path.name.removesuffix(self.suffix)

    def all_in(self, root: Path) -> list[Path]:
        """Those of the workspace ``root`` by name, but for hidden ones; none where the folder cannot be read."""
        try:
            found = [path for path in (root / self.folder).iterdir() if not path.name.startswith(".")]
            return sorted(path for path in found if (path.suffix == self.suffix if self.suffix else path.is_dir()))
        except OSError:
            return []


ACTIVATIONS = Kind("activations", "activations", "activation store", marks=("manifest.json",))
EMBEDDINGS = Kind("embeddings", "embeddings", "embedding store", marks=("manifest.json",))
SAES = Kind("sae", "saes", "SAE", marks=("config.json", "training.json", "checkpoints", "preview.json"))
NEURONS = Kind("neurons", "neurons", "scores", ".h5")
CONCEPTS = Kind("concepts", "concepts", "concept tests", ".json", second=True)
STEERABILITY = Kind(
    "steerability",
    "steerability",
    "steering scores",
    marks=("scores.json", "answers.jsonl"),
    appended=True,
    second=True,
)
FIDELITY = Kind("fidelity", "fidelity", "fidelity", ".json", second=True)
STABILITY = Kind("stability", "stability", "SAEs compared", ".json", second=True)
RECIPES = Kind("recipe", "recipes", "recipe", ".toml")
RUNS = Kind("run", "runs", "run", marks=("command.json",), appended=True)
ARTEFACTS = (ACTIVATIONS, EMBEDDINGS, SAES, NEURONS, CONCEPTS, FIDELITY, STEERABILITY, STABILITY, RECIPES, RUNS)
BY_NAME = {kind.name: kind for kind in ARTEFACTS}
BY_FOLDER = {kind.folder: kind for kind in ARTEFACTS} | {
    "images": Kind("images", "images", "images", marks=("labels.jsonl",)),  # those that saetui draws
    "labels": Kind("labels", "labels", "labels", ".toml"),
}
"""Of whatever is written into a folder of its own."""
