"""The benchmark of human agreement, on files made to its layout."""

import numpy as np
import pytest

from engine.config import AgreementSettings
from engine.errors import UserError
from engine.metrics.monosemanticity import monosemanticity
from engine.neurons.agreement import agree
from engine.neurons.agreement_results import PUBLISHED, PUBLISHED_MEAN, PUBLISHED_PAIRS, PUBLISHED_WEIGHTED
from engine.workspace import Workspace

LATENTS, N = [3, 8, 21, 40, 77], 60
HEADER = "k_x,k_y,R_user,MS_x_dino,MS_y_dino,MS_x_clip,MS_y_clip"


@pytest.fixture
def benchmark(tmp_path):
    """Five latents on 60 images; people always choose the latent with the larger MS, which is not that of the file."""
    rng = np.random.default_rng(0)
    E = rng.normal(size=(N, 8)) + 0.4
    A = np.where(rng.random((N, 5)) < 0.4, rng.exponential(size=(N, 5)), 0)
    A[:, 4] = 0
    ms = monosemanticity(A, E).ms
    given = dict(zip(LATENTS, [0.1, 0.9, 0.3, 0.35, 0.5], strict=True))
    lines = []
    for i, x in enumerate(LATENTS[:4]):
        for j, y in enumerate(LATENTS[:4]):
            if i != j:
                lines.append(f"{x},{y},{'x' if ms[i] > ms[j] else 'y'},{given[x]},{given[y]},.2,.1")
    lines.append(f"77,3,x,{given[77]},{given[3]},,.4")
    lines.append("3,8,,.1,.9,.1,.2")
    (tmp_path / "pairs.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    columns = ",".join(f"a_{i + 1}" for i in range(N))
    rows = [f"{k}," + ",".join(f"{value:g}" for value in column) for k, column in zip(LATENTS, A.T, strict=True)]
    (tmp_path / "activations.csv").write_text("\n".join([f"k,{columns}", *rows, "999," + ",".join("0" * N)]) + "\n")
    top = np.argsort(-A, axis=0)[:16].T
    rows = [f"{k}," + ",".join(map(str, row)) for k, row in zip(LATENTS, top, strict=True)]
    (tmp_path / "top16_images.csv").write_text("\n".join(["k," + ",".join(f"x_{i}" for i in range(1, 17)), *rows]))
    np.save(tmp_path / "E.npy", E)
    return tmp_path


def ask(folder, **more):
    return agree(AgreementSettings(folder=str(folder), **more), Workspace(folder / "work"))


def said(result):
    return {one.score: one.agreement for one in result.scores}


def test_published_scores_agree_as_the_file_says(benchmark):
    result = ask(benchmark)
    assert (result.pairs, result.undecided) == (13, 1)
    dino, clip = said(result)["MS by dino"], said(result)["MS by clip"]
    assert dino.pairs == 13 and clip.pairs == 12 and clip.left_out == 1
    assert clip.weighted == pytest.approx(0.5)  # it always says x, and each pair is there both ways
    assert [one.pairs for one in dino.bins[:3]] == [2, 0, 4]


def test_ms_of_the_activations_is_what_people_chose_by(benchmark):
    found = said(ask(benchmark, embeddings=str(benchmark / "E.npy")))
    assert found["MS"].weighted == 1 and found["MS"].pairs == 12 and found["MS"].left_out == 1, "latent 77 never fires"
    assert found["MS"].weighted_low < 1 == found["MS"].weighted_high
    assert found["top images"].pairs == 13


def test_other_scores_come_from_a_file(benchmark):
    (benchmark / "mine.csv").write_text("k,score\n3,1\n8,2\n21,nan\n40,\n77,5\n")
    found = said(ask(benchmark, scores=str(benchmark / "mine.csv")))["mine.csv"]
    assert found.pairs == 3 and found.left_out == 10


@pytest.mark.parametrize(("x", "y", "first"), [("1", "0", "1"), ("0", "1", "0"), ("-1", "1", "-1"), ("0.75", "0", "1")])
def test_choices_may_be_numbers_of_which_one_is_the_first(tmp_path, x, y, first):
    rows = [f"3,8,{x}", f"8,3,{y}", f"3,40,{x}", f"40,8,{y}"]
    (tmp_path / "pairs.csv").write_text("\n".join(["k_x,k_y,R_user", *rows]))
    (tmp_path / "s.csv").write_text("k,score\n3,3\n8,2\n40,1\n")
    assert said(ask(tmp_path, scores=str(tmp_path / "s.csv"), first=first))["s.csv"].weighted == 1


def test_choices_may_be_the_latents(tmp_path):
    (tmp_path / "pairs.csv").write_text("k_x,k_y,R_user\n3,8,3\n40,8,8\n40,3,40\n")
    (tmp_path / "s.csv").write_text("k,score\n3,3\n8,2\n40,1\n")
    assert said(ask(tmp_path, scores=str(tmp_path / "s.csv")))["s.csv"].weighted == pytest.approx(2 / 3)


def test_numbers_that_say_nothing_are_asked_about(tmp_path):
    (tmp_path / "pairs.csv").write_text("k_x,k_y,R_user\n3,8,0\n8,3,1\n")
    with pytest.raises(UserError, match="has 0, 1 in R_user: say with --first which"):
        ask(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("pairs.csv", "k_x,k_y\n1,2\n", "no column R_user"),
        ("pairs.csv", "k_x,k_y,R_user\n", "has no pairs"),
        ("pairs.csv", "k_x,k_y,R_user\n1,2\n", "has 2 values in line 2, not 3"),
        ("pairs.csv", "k_x,k_y,R_user\n1,two,x\n", "'two' for a latent in line 2"),
        ("pairs.csv", "k_x,k_y,R_user\n1,2,both\n", "'both' in R_user"),
        ("pairs.csv", "k_x,k_y,R_user,MS_x_a,MS_y_a\n1,2,x,high,1\n", "'high' for a score in line 2"),
        ("activations.csv", "k,a_1\n3,1\n", "1 activation in line 2, and the embeddings 60 rows"),
        ("activations.csv", "k,a_1\n3,one\n", "no row of numbers in line 2"),
        ("activations.csv", "k,a_1\n3,nan\n", "no row of numbers in line 2"),
        ("activations.csv", "k,a_1\n999,1\n", "scores of none of the latents"),
        ("top16_images.csv", "k,x_1,x_2\n3,1,60\n", "no numbers of images below 60 in line 2"),
        ("s.csv", "k,value\n3,1\n", "no column score"),
    ],
)
def test_wrong_files_are_named(benchmark, name, text, words):
    (benchmark / name).write_text(text)
    more = {"scores": str(benchmark / "s.csv")} if name == "s.csv" else {"embeddings": str(benchmark / "E.npy")}
    with pytest.raises(UserError, match=words):
        ask(benchmark, **more)


def test_what_is_missing_is_named(benchmark):
    (benchmark / "activations.csv").unlink()
    with pytest.raises(UserError, match=r"activations\.csv does not exist"):
        ask(benchmark, embeddings=str(benchmark / "E.npy"))
    (benchmark / "pairs.csv").unlink()
    with pytest.raises(UserError, match=r"pairs\.csv does not exist"):
        ask(benchmark)


def test_published_figures_are_those_of_the_paper():
    assert sum(PUBLISHED_PAIRS) == 1000
    assert pytest.approx(np.mean(PUBLISHED), abs=0.005) == PUBLISHED_MEAN
    assert pytest.approx(0.78, abs=0.01) == PUBLISHED_WEIGHTED
