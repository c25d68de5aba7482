"""What is listed, sorted, selected and drawn, and what is asked of runs: without a terminal."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import UserError
from engine.files import write_json, write_text
from engine.runs.trainings import FrozenTwin, Training
from engine.runs.trainings import trainings as trainings_of
from engine.sae.config import DirectionsMeasured, SAEConfig
from engine.sae.results import Checked, HeldOutMeasurement, MeasuredStep
from engine.settings import to_mapping
from engine.workspace import Workspace
from saetui.modes.train.training_list import SORTS, TRAININGS, TrainingList
from saetui.modes.train.training_runs import TrainingRuns
from saetui.modes.train.training_table import FIGURES, columns_of, details, facts, fitting, in_a_line, texts, told
from saetui.modes.train.watch import Seen, lines_of
from saetui.widgets.chart import MOST
from tests.support.foreign import READS, bring, write_saelens
from tests.support.scores import write_scores
from tests.support.trainings import begin, chosen


def row(name: str, fve: float | None = None, state: str = "done", **more: Any) -> Training:
    history = [MeasuredStep(step=10, loss=1.0, fve=fve), MeasuredStep(step=20, loss=0.5)]
    return Training(name=name, state=state, step=20, steps=20, history=history, **more)


@pytest.fixture
def trainings() -> TrainingList:
    found = TrainingList()
    found.see(Seen([row("b", 0.5), row("a", 0.9), row("c")]))
    return found


def names(trainings: TrainingList) -> list[str]:
    return [one.name for one in trainings.rows]


def test_fve_without_outliers_stands_beside_fve_where_there_are_outliers():
    def outlying(share: float) -> Training:
        measured = {"fve": 0.99, "outliers": share, "fve_without_outliers": 0.88}
        history = [MeasuredStep(step=step, loss=1.0, **measured) for step in (10, 20)]
        return Training(name="a", state="done", step=20, steps=20, history=history)

    assert "FVE .880 without outliers, 0.10% of the rows" in details(outlying(0.001), scored=True)
    assert "without outliers" not in details(outlying(0.0), scored=True) + details(row("b", 0.5), scored=True)
    assert lines_of(outlying(0.001))["fve_without_outliers"][1].tolist() == [0.88, 0.88]
    assert "fve_without_outliers" not in lines_of(outlying(0.0)) and "fve" in lines_of(outlying(0.0))


def test_the_selected_one_stays_selected_however_it_is_sorted(trainings):
    trainings.place = 2
    for sort, expected in {"name": "abc", "fve": "abc", "newest": "bac"}.items():
        trainings.arrange(sort)
        assert "".join(names(trainings)) == expected and trainings.selected.name == "c"
    trainings.see(Seen([row("a")]))  # it is gone
    assert trainings.selected.name == "a"
    trainings.see(Seen())
    assert trainings.selected is None and trainings.curves() == []


def test_what_is_awaited_is_selected_once_it_appears(trainings):
    trainings.restore("no such order", "new", ["a", "b"])
    trainings.see(Seen([row("a"), row("b")]))
    assert trainings.sort == "newest" and trainings.selected.name == "b" and trainings.awaited == "new"
    trainings.see(Seen([row("a"), row("new"), row("b")]))
    assert trainings.selected.name == "new" and trainings.awaited == ""
    assert [(one.name, one.look) for one in trainings.curves()] == [("new", 0), ("a", 1), ("b", 2)]


def test_overlaid_trainings_keep_their_colours_and_are_not_too_many():
    trainings = TrainingList()
    trainings.see(Seen([row(str(n)) for n in range(MOST)]))
    for place in range(MOST - 1):
        trainings.place = place
        assert trainings.overlay()
    trainings.place = MOST - 1
    assert not trainings.overlay() and len(trainings.overlaid) == MOST - 1
    trainings.place = 0
    assert trainings.overlay() and "0" not in trainings.overlaid
    trainings.place = MOST - 1
    assert trainings.overlay() and trainings.overlaid[str(MOST - 1)] == 1  # the colour that is free


def test_the_time_left_is_that_of_the_head_of_the_app():
    """Of what trains now; a run that does something else by now is not left with its training."""
    trainings = TrainingList()
    trainings.see(Seen([row("a", state="running", eta=100.0, run="1"), row("b", run="2"), row("c", eta=7.0, run="3")]))
    assert trainings.tell_left({"1": 90.0, "2": 50.0}) and not trainings.tell_left({"1": 90.0, "2": 50.0})
    assert {one.name: one.eta for one in trainings.rows} == {"a": 90.0, "b": None, "c": 7.0}
    trainings.see(Seen([row("a", state="running", eta=80.0, run="1")]))
    assert trainings.rows[0].eta == 90.0, "until the head has been told anew"


def test_columns_come_by_their_rank_and_stand_in_their_order():
    order = [figure.name for figure in FIGURES]
    for width in range(30, 120):
        figures = fitting(width)
        assert [figure.rank for figure in sorted(figures, key=lambda one: one.rank)] == list(range(len(figures)))
        assert [figure.name for figure in figures] == [name for name in order if name in {f.name for f in figures}]
        assert len(columns_of(figures)) == len(texts(row("a", 0.5), figures, {}))
    assert fitting(30) == [] and len(fitting(119)) == len(FIGURES)


def test_a_twin_has_a_column_where_there_is_one():
    twin = FrozenTwin("f", "decoder", MeasuredStep(step=20, loss=1.0, fve=0.4321, ms=0.25))
    listed = TrainingList()
    listed.see(Seen([row("a", 0.5), row("b", 0.45, twin=twin), row("f", 0.43)]))
    assert "twin" not in {one.name for one in fitting(119, set())}
    figures = fitting(60)
    place = [column.title for column in columns_of(figures)].index("twin")
    assert [texts(one, figures, {})[place] for one in listed.rows] == ["", ".432", ""]
    assert details(listed.rows[1], scored=True) == "f, the same with decoder frozen: FVE .432, MS .25"
    listed.arrange("twin")
    assert names(listed)[0] == "b" and [one.name for one in TRAININGS.filtered(listed.rows, "twin>.4")] == ["b"]


def test_a_twin_that_explains_nothing_comes_before_none():
    nothing, worse = (FrozenTwin("f", "decoder", MeasuredStep(step=20, loss=1.0, fve=fve)) for fve in (0.0, -3.0))
    listed = TrainingList()
    listed.see(Seen([row("none", 0.5), row("worse", 0.4, twin=worse), row("nothing", 0.3, twin=nothing)]))
    listed.arrange("twin")
    assert names(listed) == ["nothing", "worse", "none"]


def test_columns_that_no_training_has_a_figure_for_leave_their_room_to_names():
    watched = replace(row("b"), history=[MeasuredStep(step=20, loss=1.0, fve=0.5, ms=0.3)])
    assert told([row("a", 0.5)]) == set() and told([row("a", 0.5), watched]) == {"ms"}
    assert told([row("c", state="running", tokens_per_s=2e4)]) == {"speed"}
    assert {"ms", "ms_matched", "twin", "speed"}.isdisjoint(one.name for one in fitting(119, told([row("a", 0.5)])))


def test_long_names_come_before_the_figures_that_matter_less():
    short, long = ([one.name for one in fitting(72, {"twin"}, longest)] for longest in (9, 40))
    assert short == ["fve", "twin", "l0", "dead", "left"] and long == ["fve", "twin", "l0", "left"]
    taken = sum(one.column.width + 1 for one in fitting(72, {"twin"}, 40))
    assert 72 - 17 - taken >= len("paper-last-batchtopk-x4-k4-s0")


def test_directions_that_were_not_trained_have_what_they_were_measured_to_be():
    held_out = HeldOutMeasurement(rows=9, fve=0.75)
    config = SAEConfig(
        arch="topk", d=4, w=8, directions="pca", measured=DirectionsMeasured(seed=0, holdout=0.1, held_out=held_out)
    )
    assert texts(Training(name="p", state="done", config=config), fitting(119), {})[3] == ".750"


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_takes_rows_of_which_nothing_is_known(sort):
    trainings = TrainingList()
    trainings.see(Seen([Training(name="a", state="damaged"), row("b", 0.5)]))
    trainings.arrange(sort)
    assert sorted(names(trainings)) == ["a", "b"]


def test_a_training_in_words():
    done = row("a", 0.4567, settings=chosen(seed=4))
    assert texts(done, fitting(119, {"ms", "ms_matched"}), {"a": 1})[:5] == ("✓+", "a", "20", ".457", "–")
    assert details(done, scored=False).splitlines() == [
        "matryoshka-batchtopk · x2 · k 3 · 64 tokens a step · seed 4 · on a",
        "Not scored yet: s scores its latents.",
    ]
    assert "scored" not in details(done, scored=True)
    measured = MeasuredStep(
        step=20, loss=1.0, rows=1920, fve=0.5, ms=0.25, ms_latents=31, ms_low=0.2, ms_high=0.3,
        ms_matched=0.2, ms_matched_latents=30, ms_matched_low=0.15, ms_matched_high=0.25,
    )  # fmt: skip
    over = "FVE, L0, dead: n 1,920 held-out rows · MS .20 to .30, n 31 latents · raw .15 to .25, n 30 latents"
    assert over in details(replace(done, history=[measured]), scored=True).splitlines()
    died = Training(name="d", state="died", step=5, steps=10, error="It was ended.")
    assert details(died, scored=False) == "r begins it again.\nIt was ended."
    kept = replace(died, kept=1000)
    assert details(kept, scored=False) == "r goes on from its checkpoint of step 1,000.\nIt was ended."
    assert in_a_line(died, {}).endswith("d  5/10  died")


class Spoken:
    """What of the app is asked: it keeps what was said and started."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.said: list[str] = []
        self.started: list[tuple[str, dict[str, Any]]] = []

    def say(self, sentence: str, severity: str = "warning") -> None:
        self.said.append(sentence)

    def guard(self, act) -> bool:
        act()
        return True

    def start(self, task: str, settings: dict[str, Any]) -> SimpleNamespace:
        self.started.append((task, settings))
        return SimpleNamespace(id="001")


def test_a_form_begins_with_the_last_settings_and_a_free_name(workspace):
    app = Spoken(workspace)
    runs = TrainingRuns(app)
    assert runs.new({}, []) is None and "no activations" in app.said[0]
    (workspace.root / "activations" / "a").mkdir(parents=True)
    (workspace.root / "saes" / "a-sae").mkdir(parents=True)
    values = runs.new({"k": 7, "activations": "gone", "unknown": 1}, ["a-sae-2"])
    assert values == {"k": 7, "activations": "a", "name": "a-sae-3"}


def test_a_checkpoint_whose_run_is_gone_goes_on_by_its_settings(workspace):
    app = Spoken(workspace)
    runs = TrainingRuns(app)
    runs.resume(row("a", state="unfinished", settings=chosen(name="a")))
    assert app.started == [("train", to_mapping(chosen(name="a")))]
    runs.resume(row("b", state="unfinished", settings=chosen(name="b", activations="")))
    runs.resume(row("c"))
    assert [sentence[:30] for sentence in app.said] == [
        "What b was trained on is not k",
        "c is done: there is nothing to",
    ]
    assert len(app.started) == 1


def test_only_what_is_done_is_scored_and_only_what_lives_is_controlled(workspace):
    app = Spoken(workspace)
    runs = TrainingRuns(app)
    assert runs.scoring(row("a", state="stopped"), "") is None
    assert runs.scoring(row("a"), "pictures") == {"images": "pictures", "sae": "a"}
    write_text(workspace.root / "workspace.toml", 'embed_with = ["demo", "demo:encoder"]\n')
    write_scores(workspace.neurons("b", "i"), 4)
    asked = runs.scoring(row("a"), "")
    assert asked is not None and asked["embed_with"] == ["demo", "demo:encoder"], "not the one of the newest scores"
    assert "name" not in asked and asked["pooling"] == "max"
    assert not runs.control(row("a", run="001"), "stop")
    assert len(app.said) == 2 and "is not being trained: it is done" in app.said[1]


def test_a_pause_that_is_not_obeyed_yet_can_be_taken_back(workspace):
    app = Spoken(workspace)
    runs, run = TrainingRuns(app), begin(workspace)
    write_json(run.path / "status.json", {"state": "running"})
    held = run.hold()
    going = row("s", state="running", run=run.id)
    runs.pause(going)
    assert run.asked == "pause" and not app.said
    runs.pause(going)
    assert run.asked == "pause" and app.said == ["s pauses at its next step: r takes that back."]
    runs.resume(going)
    assert run.asked == "" and len(app.said) == 1
    runs.resume(going)
    assert app.said[1:] == ["s is running: there is nothing to resume."]
    run.control("stop")
    with pytest.raises(UserError, match="is asked to stop"):
        runs.pause(going)
    assert run.asked == "stop"
    held.close()


def test_an_imported_sae_in_words(workspace, tmp_path):
    bring(workspace, write_saelens(tmp_path / "theirs", normalize_activations="none"), "theirs")
    (imported,) = trainings_of(workspace)
    imported = replace(imported, checked=Checked(store="a", rows=10, fve=0.75, l0=3.25, dead=0.5))
    assert texts(imported, fitting(119, {"ms", "ms_matched"}), {})[:6] == ("✓", "theirs", "–", ".750", "3.2", "50%")
    assert texts(imported, fitting(119, {"ms", "ms_matched"}), {})[-1] == "import"
    assert details(imported, scored=False).splitlines() == [
        "relu · 16 -> 24 latents · of saelens",
        "FVE, L0, dead: n 10 rows",
        "Not scored yet: s scores its latents.",
    ]
    known = dict(facts(imported))
    assert known["reads"] == "patches of layer:4 of demo:encoder" and known["from"].endswith("sae_weights.safetensors")
    assert known["checked"] == "10 rows of a: FVE .75, L0 3.2, dead 50.0%" and '"d_in": 16' in known["its config"]
    assert facts(row("a")) == []


def test_an_imported_sae_is_scored_and_imported_again_but_not_trained_further(workspace, tmp_path):
    source = write_saelens(tmp_path / "theirs")
    bring(workspace, source, "theirs")
    (imported,) = trainings_of(workspace)
    app = Spoken(workspace)
    runs = TrainingRuns(app)
    assert runs.scoring(imported, "pictures") == {"images": "pictures", "sae": "theirs"}
    runs.resume(imported)
    assert app.said == ["theirs was not trained here: it cannot be trained further, n trains one anew."]
    again = runs.importing(imported)
    assert again == {"source": str(source / "sae_weights.safetensors"), "format": "saelens"} | READS
    assert not app.started


def test_controls_are_told_as_such() -> None:
    assert "MonoLoss 0.25" in details(row("m", settings=chosen(mono=0.25, mono_embeddings="e")), scored=True)
    twin = row("twin", 0.5, settings=chosen(frozen="soft-decoder"))
    assert "soft-decoder frozen" in details(twin, scored=True)
    assert "frozen" not in details(replace(twin, settings=chosen()), scored=True)
    made = row("b", config=SAEConfig(arch="topk", d=16, w=24, k=3, directions="kmeans"))
    assert "topk · 16 -> 24 latents · k 3 · centroids of k-means, not trained" in details(made, scored=True)
    assert "not trained here" not in details(made, scored=True)
    found = TrainingList()
    found.see(Seen([twin, row("whole", settings=chosen())]))
    found.line = "frozen=soft-decoder"
    found.arrange()
    assert names(found) == ["twin"]


def test_a_setting_equals_itself_alone():
    """Two learning rates of a sweep are no one for being near to each other."""
    rows = [row(str(lr), 0.5, settings=chosen(lr=lr)) for lr in (2e-4, 1.8e-4, 2.4e-4)]
    assert [one.name for one in TRAININGS.filtered(rows, "lr=2e-4")] == ["0.0002"]
