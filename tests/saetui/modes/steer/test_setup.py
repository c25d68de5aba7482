import json
import threading
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import InterventionMode, SteerSettings
from engine.errors import UserError
from engine.records import from_json, to_json
from engine.steer.interventions import parse_latents, resolve
from engine.steer.results import Steered
from saetui.modes.steer.dose_response import bar, sparkline
from saetui.modes.steer.kept import suggested_name
from saetui.modes.steer.rack import slider
from saetui.modes.steer.setup import Setup, SetupEditor, Slot, parse_doses
from saetui.modes.steer.versions import KEPT, Version, Versions

numbers = st.floats(-500, 500)
modes = st.sampled_from(get_args(InterventionMode))
slots = st.builds(
    Slot,
    latent=st.integers(0, 99_999),
    value=numbers,
    on=st.booleans(),
    maximum=st.just(0.0) | st.floats(0.01, 300),
    name=st.text(max_size=8),
)
racks = st.lists(slots, max_size=5, unique_by=lambda slot: slot.latent).map(tuple)
setups = st.builds(
    Setup,
    sae=st.text(),
    vlm=st.text(),
    image=st.text(),
    prompt=st.text(),
    mode=modes,
    keep_error=st.booleans(),
    rack=racks,
)


@given(setups)
def test_a_setup_survives_json(setup):
    assert from_json(Setup, json.loads(json.dumps(to_json(setup))), "It") == setup


@given(racks, modes)
def test_the_model_is_told_what_the_rack_says(rack, mode):
    setup = Setup(sae="s", vlm="demo", rack=rack, mode=mode)
    said = dict(resolve(parse_latents(setup.latents, mode), {}))
    assert set(said) == {slot.latent for slot in rack if slot.on}
    for slot in rack:
        if slot.on:
            wanted = {"ablate": 0.0, "scale": slot.value / (slot.maximum or 10)}.get(mode, slot.value)
            assert said[slot.latent] == pytest.approx(wanted, rel=1e-5, abs=1e-12)


@given(setups)
def test_a_setup_comes_back_from_its_settings(setup):
    known = {slot.latent: (slot.name, slot.maximum) for slot in setup.rack}
    again = Setup.from_settings(setup.settings(), setup.neurons, known)
    assert again.latents == setup.latents and replace(again, rack=()) == replace(setup, rack=())


def test_a_recipe_may_hold_multiples_of_the_maximum():
    settings = SteerSettings(sae="s", vlm="demo", latent=("3=2x", "4=7"))
    setup = Setup.from_settings(settings, "", {3: ("red", 4.0)})
    assert [(slot.latent, slot.value, slot.name) for slot in setup.rack] == [(3, 8.0, "red"), (4, 7.0, "")]
    with pytest.raises(UserError, match="maximum of latent 3 is not known"):
        Setup.from_settings(settings, "", {})


@pytest.mark.parametrize("damage", [{"rack": 3}, {"rack": [{"latent": "x"}]}, {"mode": "shout"}, {"sae": None}])
def test_a_damaged_setup_is_a_sentence(damage):
    with pytest.raises(UserError):
        from_json(Setup, to_json(Setup(sae="s")) | damage, "It")


@given(st.lists(st.sampled_from([0.1, -0.1, 1.0, -1.0]), max_size=60), st.floats(0.01, 300))
def test_steps_do_not_add_up_errors(steps, maximum):
    slot = Slot(1, maximum=maximum)
    for step in steps:
        slot = slot.at(slot.times + step)
    assert slot.value == pytest.approx(round(sum(steps), 1) * maximum, abs=1e-9)


def test_another_sae_has_other_latents():
    setup = Setup(sae="a").with_latent(Slot(1)).with_latent(Slot(2)).with_latent(Slot(1, value=5.0))
    assert [(slot.latent, slot.value) for slot in setup.rack] == [(1, 5.0), (2, 0.0)]
    assert setup.of_sae("a", "x.h5").rack == setup.rack and setup.of_sae("b", "").rack == ()


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "value 1", "value 2"])), max_size=30))
def test_undo_takes_back_to_the_first_and_redo_to_the_last(changes):
    shown, asked = [], []
    editor = SetupEditor(lambda before, setup: shown.append((before, setup)), lambda: asked.append(editor.setup))
    for number, (sae, kind) in enumerate(changes):
        editor.change(Setup(sae=f"{number}-{sae}"), kind)
    last, back = editor.setup, []
    assert asked == [setup for _, setup in shown] and len(asked) == len(changes)
    while editor.undo():
        back.append(editor.setup)
    assert editor.setup == Setup()
    starts = [k for i, (_, k) in enumerate(changes) if i == 0 or not k or k != changes[i - 1][1]]
    assert len(back) == len(starts), "changes of one kind in a row are one step"
    while editor.redo():
        pass
    assert editor.setup == last


@pytest.mark.parametrize(
    "text, doses",
    [
        ("0 1 2", (0, 1, 2)),
        ("-1, 0.5,4", (-1, 0.5, 4)),
        ("-1..4 by 0.5", (-1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4)),
        ("0..1", (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)),
        ("2 2", (2,)),
    ],
)
def test_doses(text, doses):
    assert parse_doses(text) == doses


@pytest.mark.parametrize(
    "text", ["", "a", "1..", "4..1", "0..1 by 0", "0..1 by x", "1..2..3", "nan", "1e9", "0..1 by 0.0001", "1..1"]
)
def test_doses_that_make_no_sense(text):
    with pytest.raises(UserError, match="strengths"):
        parse_doses(text)


def version(number):
    return Version(Setup(sae=str(number)), Steered(*["a\x1b[2J word"] * 3), float(number))


def test_versions_are_kept_newest_first_and_bounded(tmp_path):
    versions = Versions(tmp_path / "deep" / "v.jsonl")
    assert versions.read() == []
    versions.add(version(0))
    line = versions.path.read_text()
    versions.path.write_text(line * (2 * KEPT))
    versions.add(version(1))
    assert len(versions.path.read_text().splitlines()) == KEPT
    found = versions.read()
    assert len(found) == KEPT and found[0] == version(1) and found[-1] == version(0)


def test_torn_and_damaged_versions_are_passed_over(tmp_path):
    versions = Versions(tmp_path / "v.jsonl")
    versions.add(version(1))
    with open(versions.path, "ab") as file:
        file.write(b'[]\n{"setup": {"rack": 3}, "answers": {}}\n\xff\n{"setup": 1}\nnull\n{"torn')
    versions.add(version(2))
    assert [found.setup.sae for found in versions.read()] == ["2", "1"]


def test_versions_of_several_threads_are_all_kept(tmp_path):
    versions = Versions(tmp_path / "v.jsonl")
    threads = [threading.Thread(target=versions.add, args=(version(n),)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {found.time for found in versions.read()} == set(range(20))


@given(st.floats(-50, 50), st.integers(5, 60))
def test_a_slider_has_its_knob_where_the_value_is(times, width):
    line = slider(times, width)
    assert len(line) == width and line.count("●") == 1
    knobs = [slider(t, width).index("●") for t in (-1.0, -0.5, 0.0, 0.5, 2.0, 4.0)]
    assert knobs == sorted(knobs) and knobs[0] == 0 and knobs[-1] == width - 1
    assert slider(times, width, on=False) == line.replace("●", "○")


@given(st.floats(-1, 2), st.integers(1, 20))
def test_a_bar_is_as_long_as_its_share(share, width):
    eighths = dict(zip("▏▎▍▌▋▊▉█", range(1, 9), strict=True))
    length = sum(eighths[block] for block in bar(share, width)) / 8
    assert abs(length - min(max(share, 0), 1) * width) <= 1 / 16 + 1e-9


def test_a_sparkline_goes_from_lowest_to_highest():
    assert sparkline([0, None, 7, 3.5]) == "▁ █▅"
    assert sparkline([]) == "" and sparkline([None]) == " " and sparkline([2.0, 2.0]) == "▁▁"


def test_a_recipe_is_named_for_all_its_latents_with_their_signs():
    rack = (
        Slot(7, 5.0, True, 5.0, "cat · kitten"),
        Slot(8, -1.0, True, 2.0),
        Slot(9, 1.0, False, 2.0, "off"),
        Slot(10, 0.08, True, 2.0, "pen"),
    )
    assert suggested_name(Setup("s", rack=rack), ()) == "cat+1x_8-0.5x_pen+0.04x"
    assert suggested_name(Setup("s", rack=rack), {"cat+1x_8-0.5x_pen+0.04x"}) == "cat+1x_8-0.5x_pen+0.04x-2"
    assert suggested_name(Setup("s", rack=rack[:2], mode="ablate"), ()) == "cat=0_8=0"
    assert suggested_name(Setup("s"), ()) == ""
