"""Taxonomy paths from folder names: iNaturalist's, with their traps, and nested folders."""

import numpy as np
import pytest

from engine.images.classes import of_text, taxonomy_of
from engine.metrics.hierarchy import depths

ANIMAL = ("Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Pieridae")
PLANT = ("Plantae", "Tracheophyta", "Liliopsida", "Asparagales", "Orchidaceae")


def depth(folders):
    return depths(np.arange(len(folders))[None], [taxonomy_of((folder,)) for folder in folders])[0][0]


@pytest.mark.parametrize(
    ("folder", "path"),
    [
        ("00000_" + "_".join(ANIMAL) + "_Colias_eurytheme", (*ANIMAL, "Colias", "eurytheme")),
        ("09999_" + "_".join(PLANT) + "_Ophrys_x_turiana", (*PLANT, "Ophrys", "x_turiana")),  # of eight names
        ("7_" + "_".join(PLANT) + "_Ophrys_sphegodes_subsp._2", (*PLANT, "Ophrys", "sphegodes_subsp._2")),
        ("00012_" + "_".join(ANIMAL) + "_Colias_hyale-alba", (*ANIMAL, "Colias", "hyale-alba")),
        ("020_plant_mushroom_dotted", ("plant", "mushroom", "dotted")),
        ("00000_Animalia_Chordata", ()),  # too short to be one
        ("Animalia_Arthropoda_Insecta_Lepidoptera", ()),  # no number
        ("00000_Animalia__Insecta_Lepidoptera", ()),  # a rank without a name
    ],
)
def test_a_folder_of_inaturalist_spells_its_path(folder, path):
    assert taxonomy_of((folder,)) == path
    assert taxonomy_of(("val", folder)) == (path or ("val", folder))


def test_numbers_of_species_do_not_part_a_genus():
    folders = [f"0000{n}_" + "_".join(ANIMAL) + f"_Colias_{name}" for n, name in enumerate(("hyale", "alba"))]
    assert depth(folders) == 6


def test_a_genus_of_two_kingdoms_is_two():
    """Oenanthe is a bird and a plant."""
    bird = "00000_Animalia_Chordata_Aves_Passeriformes_Muscicapidae_Oenanthe_oenanthe"
    plant = "00001_Plantae_Tracheophyta_Magnoliopsida_Apiales_Apiaceae_Oenanthe_crocata"
    assert depth([bird, plant]) == 0


def test_nested_folders_are_a_path_of_any_depth():
    assert taxonomy_of(("animal", "cat", "tabby", "old")) == ("animal", "cat", "tabby", "old")
    assert taxonomy_of(("cat",)) == () and taxonomy_of(()) == ()
    assert of_text("animal / cat") == ("animal/cat", ("animal", "cat"))
