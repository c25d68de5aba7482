"""Mode Hierarchy: what is seen, and the way from a node to its latents."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.files import write_text
from engine.neurons.file import Neurons
from engine.neurons.quantities import FIELDS
from engine.workspace import MARKER, Workspace
from saetui.app import Workbench
from saetui.modes.hierarchy.screen import HierarchyMode
from saetui.modes.neurons.screen import NeuronsMode
from tests.support.pilots import rows, screen_text, until
from tests.support.scores import changing
from tests.support.synthetic import write_synthetic

WIDE, NARROW = (130, 40), (80, 24)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("made") / "study", 400, 700)


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(made, tmp_path / "study")))


def scores(place: Workspace) -> Path:
    return next((place.root / "neurons").glob("*.h5"))


def drive(
    place: Workspace, scenario: Callable[[Pilot[Any], Any], Awaitable[None]], size: tuple[int, int] = WIDE
) -> None:
    async def run() -> None:
        app = Workbench(place, mode="hierarchy")
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: isinstance(app.screen, HierarchyMode))
            await scenario(pilot, app.screen)

    asyncio.run(run())


def without_taxonomy(path: Path, labels: bool) -> None:
    """Make the scores those of images in plain folders, or in none."""
    with changing(path) as file:
        file["images/taxonomy"][:] = b"[]"
        if not labels:
            file["images/label"][:] = b""
        summary = file["summary"][()].decode()
        head, _, rest = summary.partition('"hierarchy": ')
        del file["summary"]
        file["summary"] = head + '"hierarchy": null' + rest[rest.index(', "uniqueness"') :]


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_chart_groups_and_taxonomy(size: tuple[int, int], place: Workspace) -> None:
    hierarchy = Neurons.open(scores(place)).summary.hierarchy

    async def scenario(pilot: Pilot[Any], pane: HierarchyMode) -> None:
        await until(pilot, lambda: pane.taxa.rows > 5 and "Spearman's ρ" in screen_text(pilot))
        text = screen_text(pilot)
        assert f"┊ {hierarchy.expected:.2f}".replace("0.", ".") in text
        for number, group in enumerate(hierarchy.groups):
            assert f"group {number}" in text and f"{group.latents:,}" in text
        assert pane.groups.has_focus and pane.groups.rows == 3
        await pilot.press("l", "j", "tab", "j", "l")
        assert pane.groups.rows > 3 and pane.taxa.has_focus
        assert rows(pane.taxa)[1].startswith("  ▾ animal")
        await pilot.press("h", "h")
        assert pane.taxa.cursor == 0
        assert max(map(len, screen_text(pilot).splitlines())) == size[0]

    drive(place, scenario, size)


def test_enter_leads_to_the_latents_of_a_node(place: Workspace) -> None:
    async def scenario(pilot: Pilot[Any], pane: HierarchyMode) -> None:
        await until(pilot, lambda: pane.taxa.rows > 5)
        await pilot.press("tab", "j", "enter")
        app: Any = pilot.app
        branch = pane.taxa.branch
        assert branch is not None and branch.place == ("all images", "animal")
        await until(pilot, lambda: isinstance(app.screen, NeuronsMode) and app.screen.listed.title)
        latents, gain = app.screen.latents, app.screen.scores.neurons.values(FIELDS["gain"])
        assert sorted(latents) == sorted(branch.latents()) and gain[latents[0]] == max(gain[latents]), "best first"
        assert f"{branch.count} latents of all images › animal" in screen_text(pilot)
        await pilot.press("5")
        assert app.screen is pane and pane.taxa.has_focus and pane.taxa.branch is branch

    drive(place, scenario)


def test_where_one_was_is_remembered(place: Workspace) -> None:
    async def go(pilot: Pilot[Any], pane: HierarchyMode) -> None:
        await until(pilot, lambda: pane.taxa.rows > 5)
        await pilot.press("tab", "j", "l", "l", "j")
        assert pane.taxa.branch is not None and len(pane.taxa.branch.place) == 3

    async def again(pilot: Pilot[Any], pane: HierarchyMode) -> None:
        await until(pilot, lambda: pane.taxa.rows > 5)
        assert pane.taxa.has_focus and pane.taxa.branch is not None and len(pane.taxa.branch.place) == 3

    drive(place, go)
    drive(place, again)


def test_nodes_without_latents_can_be_left_out(place: Workspace) -> None:
    async def scenario(pilot: Pilot[Any], pane: HierarchyMode) -> None:
        await until(pilot, lambda: pane.taxa.rows > 5)
        bare = pane.taxa._roots[0].children[0]
        bare.count = 0
        before = pane.taxa.rows
        await pilot.press("o")
        assert pane.taxa.rows == before - 1 and not any(bare.cells[0] in row for row in rows(pane.taxa))
        await pilot.press("o", "tab", "j", "enter")
        assert isinstance(pilot.app.screen, HierarchyMode), "there is nothing to show of it"
        await until(pilot, lambda: any("No latent has" in note.message for note in pilot.app._notifications))

    drive(place, scenario)


@pytest.mark.parametrize("labels", [True, False])
def test_images_without_a_taxonomy(labels: bool, place: Workspace) -> None:
    without_taxonomy(scores(place), labels)

    async def scenario(pilot: Pilot[Any], pane: HierarchyMode) -> None:
        await until(pilot, lambda: pane.groups.rows == 3)
        assert "images without a taxonomy: no depth" in screen_text(pilot)
        assert pane.taxa.display == labels
        assert ("neither taxonomy nor classes" in screen_text(pilot)) == (not labels)
        assert ("classes  " in screen_text(pilot)) == labels
        await pilot.press("j", "enter")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, NeuronsMode) and "latents of group 1" in screen_text(pilot)
        )

    drive(place, scenario)


def test_without_scores_it_teaches_and_shows_them_when_they_come(place: Workspace, tmp_path: Path) -> None:
    bare = Workspace(tmp_path / "bare")
    write_text(bare.root / MARKER, "# nothing\n")

    async def scenario(pilot: Pilot[Any], pane: HierarchyMode) -> None:
        await until(pilot, lambda: "No scores yet: train an SAE (2)" in screen_text(pilot))
        assert not pane.groups.display and not pane.taxa.display
        (bare.root / "neurons").mkdir()
        shutil.copy(scores(place), bare.root / "neurons")
        await until(pilot, lambda: pane.groups.rows == 3)

    drive(bare, scenario)


def test_a_damaged_file_is_a_sentence_until_it_is_made_again(place: Workspace) -> None:
    path = scores(place)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])

    async def scenario(pilot: Pilot[Any], pane: HierarchyMode) -> None:
        await until(pilot, lambda: "score again" in screen_text(pilot))
        (path.parent / "new").write_bytes(whole)
        (path.parent / "new").rename(path)
        await until(pilot, lambda: pane.groups.rows == 3)
        path.unlink()
        await pilot.pause(0.7)
        assert pane.groups.rows == 3, "what is shown stays"

    drive(place, scenario, (200, 40))


def test_a_theme_repaints_the_chart(place: Workspace) -> None:
    async def scenario(pilot: Pilot[Any], pane: HierarchyMode) -> None:
        await until(pilot, lambda: pane.taxa.rows > 5)
        before = pane.query_one("#chart").content  # type: ignore[attr-defined]
        await pilot.press("f9")
        await until(pilot, lambda: pane.query_one("#chart").content != before)  # type: ignore[attr-defined]

    drive(place, scenario)
