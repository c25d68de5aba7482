"""The table of two SAEs beside each other, against what either tells of its latents alone."""

from engine.neurons.comparison import counterparts
from engine.neurons.file import Neurons
from engine.workspace import Workspace, neurons_files
from tests.support.synthetic import write_synthetic


def test_each_latent_stands_beside_the_one_that_shows_the_same_images(tmp_path):
    (path,) = neurons_files(Workspace(write_synthetic(tmp_path / "study", 512, 60)))
    with Neurons.open(path) as ours, Neurons.open(path) as theirs:
        latents = list(range(64))[::-1]
        rows = counterparts(ours, theirs, latents, {3: "mine"}, {3: "theirs"})
        assert [row["latent"] for row in rows] == latents
        for latent, row in zip(latents, rows, strict=True):
            best = ours.match(theirs, latent, 1)
            assert [(row["counterpart"], row["jaccard"])] == (best or [(None, None)])
            if best:
                theirs_alone = theirs.row(best[0][0], {3: "theirs"}).to_json()
                assert [row[f"counterpart_{name}"] for name in ("ms", "label")] == [
                    theirs_alone[name] for name in ("ms", "label")
                ]
        assert rows[latents.index(3)]["label"] == "mine"
        assert any(row["counterpart"] is None for row in rows) and any(row["counterpart"] == 3 for row in rows)
