"""The report in a real browser: search, sort, keys, sizes and colours; nothing leaves the page, nothing in it acts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engine.config import ReportSettings
from engine.neurons.file import Neurons
from engine.neurons.labels import Labels
from engine.report.report import report
from tests.support.browser import Browser, browser, needs_browser
from tests.support.reports import HOSTILE, W, write_reported
from tests.support.synthetic import IMAGES, NAME

pytestmark = needs_browser
SHOWN = "[...document.querySelectorAll('.card h3 b')].map(one => Number(one.textContent))"
EVERY = (
    f"(() => {{ const more = document.getElementById('more'); while (!more.hidden) more.click(); return {SHOWN} }})()"
)
STATUS = "document.getElementById('status').textContent"
TIP = "[...document.querySelectorAll('#tip:not([hidden]) span')].map(one => one.textContent).join('\\n')"


@dataclass
class Opened:
    page: Browser
    path: Path
    neurons: Neurons
    labels: Labels

    def ask(self, line: str, status: str = "") -> None:
        """Type ``line`` in place of what is in the filter line."""
        self.page.run("document.getElementById('q').focus(); document.getElementById('q').select()")
        if line:
            self.page.type(line)
        else:
            self.page.press("Escape")
        self.page.until(f"document.getElementById('q').value === {line!r}")

    def order(self, sort: str = "gain", search: str = "") -> list[int]:
        return self.neurons.order(sort, search, self.labels.texts, marks=self.labels.marks)


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    place = write_reported(tmp_path_factory.mktemp("made") / "study")
    path = Path(report(replace(ReportSettings(sae=NAME), sort="gain"), place).path)
    scores = place.neurons(NAME, IMAGES)
    with Neurons.open(scores) as neurons, browser(tmp_path_factory.mktemp("profile")) as page:
        yield Opened(page, path, neurons, Labels.of(scores, NAME, neurons.sae_sha256))


@pytest.fixture
def opened(driven: Opened) -> Opened:
    driven.page.look(1280)
    driven.page.open(driven.path)
    driven.page.until(f"{STATUS} !== ''")
    return driven


def test_it_asks_for_nothing_and_nothing_in_it_acts(opened):
    page = opened.page
    page.asked.clear()
    page.open(opened.path)
    page.run(EVERY)
    page.run("document.querySelectorAll('details').forEach(one => { one.open = true })")
    page.run("scrollTo(0, document.body.scrollHeight)")
    page.until("document.querySelectorAll('.picture img').length > 20")
    assert page.asked == [opened.path.as_uri()] and page.errors == []
    assert page.run("document.title") == f"{NAME} · saetui report"
    assert page.run("document.querySelectorAll('img[src=\"x\"], [onerror]').length") == 0
    said = page.run("document.body.textContent")
    told = [f"any pencil {HOSTILE}", f"What is it? {HOSTILE}", f"a green pencil {HOSTILE}"]
    assert all(one in said for one in told)
    classes = page.run("[...document.querySelectorAll('.card .class')].map(one => one.textContent)")
    assert len(classes) == W and any(one.endswith(HOSTILE) for one in classes)


def test_its_policy_lets_nothing_out(opened):
    refused = opened.page.run(
        "new Promise(done => {"
        " document.addEventListener('securitypolicyviolation', one => done(one.violatedDirective));"
        " const image = new Image(); image.src = 'http://127.0.0.1:9/x'; document.body.append(image) })"
    )
    assert refused == "img-src"
    asked = "fetch('http://127.0.0.1:9/').then(() => 'went', () => 'refused')"
    assert opened.page.run(asked) == "refused"
    ran = "(() => { const one = document.createElement('script'); one.textContent = 'window.ran = 1';"
    assert opened.page.run(f"{ran} document.body.append(one); return window.ran ?? 0 }})()") == 0


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ms>.3",
        "raw<.1 n>20",
        "freq<50% OR ms>.6",
        "NOT (ms>.1 AND support>10)",
        "marked",
        "labelled=0 alive",
        "dead OR marked",
        'label="any pencil*"',
        "latent>=60",
        "17",
        "gain≥.2",
        "class=*fish*",
        'class="fish striped" OR class=fish_dotted',
        'class!="fish striped" freq%>10',
        "NOT depth>0",
    ],
)
def test_the_filter_line_lists_what_the_workbench_lists(opened, line):
    opened.ask(line)
    expected = opened.order(search=line)
    opened.page.until(f"{STATUS} === '{len(expected)} of {W} latents'")
    assert opened.page.run(EVERY) == expected


def test_words_find_labels_names_and_classes(opened):
    opened.ask("any pencil")
    opened.page.until(f"{STATUS} === '1 of {W} latents'")
    assert opened.page.run(SHOWN) == [5]
    name = opened.neurons.names_of(9)[0].split("<")[0]
    opened.ask(name)
    opened.page.until(f"{SHOWN}.includes(9)")
    opened.ask("xyzzy")
    opened.page.until(f"{STATUS} === '0 of {W} latents'")


@pytest.mark.parametrize(
    "line", ["ms>>3", "nope>3", "(ms>.1", "ms>.1)", "NOT", "OR ms>1", "ms>0,2", "class<3", "ms>", ">3"]
)
def test_what_is_not_understood_is_said_and_finds_nothing(opened, line):
    opened.ask(line)
    opened.page.until(f"{STATUS} === '0 of {W} latents'")
    assert opened.page.run("document.getElementById('mistake').textContent").endswith(".")
    assert opened.page.run("document.getElementById('q').getAttribute('aria-invalid')") == "true"
    opened.ask("")
    opened.page.until(f"{STATUS} === '{W} of {W} latents'")
    assert opened.page.run("document.getElementById('mistake').textContent") == ""


@pytest.mark.parametrize("sort", ["ms", "matched", "support", "latent", "depth", "marked", "half_width"])
def test_it_sorts_as_the_workbench_does(opened, sort):
    page = opened.page
    page.run(f"document.getElementById('sort').value = '{sort}'")
    page.run("document.getElementById('sort').dispatchEvent(new Event('change'))")
    values = opened.neurons.values
    expected, found = opened.order(sort), page.run(EVERY)
    if sort == "marked":
        assert found[:2] == expected[:2] == [5, 9]
        return
    from engine.neurons.quantities import FIELDS

    of = values(FIELDS[sort]).tolist()
    assert [of[n] for n in found] == pytest.approx([of[n] for n in expected], nan_ok=True)  # equals in any order
    page.run("document.getElementById('reverse').click()")
    back = [of[n] for n in page.run(EVERY)]
    known = [one for one in back if one == one]
    assert known == pytest.approx(sorted(known, reverse=sort == "latent"))
    assert all(one == one for one in back[: len(known)])


def test_it_is_used_by_keyboard_alone(opened):
    page = opened.page
    page.press("/")
    assert page.run("document.activeElement.id") == "q"
    page.type("ms>.2")
    page.until(f"{STATUS} !== '{W} of {W} latents'")
    while page.run("document.activeElement.className") != "card group":
        page.press("Tab")
    first = page.run("document.activeElement.id")
    page.press("ArrowDown")
    assert page.run("document.activeElement.id") != first
    page.press("k")
    assert page.run("document.activeElement.id") == first
    page.press("ArrowRight")
    told = page.run(TIP)
    assert told.startswith("MS, monosemanticity\n") and "sum of a_i a_j" in told
    latent = int(first.removeprefix("latent-"))
    assert f"n: 48 images, of which {opened.neurons.support[latent]} fire it" in told
    assert f"from neurons/{NAME}--{IMAGES}.h5: latents/ms" in told
    page.press("ArrowRight")
    assert page.run(TIP).startswith("MS of the matched raw neuron\n")
    assert page.run("document.activeElement.getAttribute('aria-describedby')") == "tip"
    page.press("Escape")
    assert page.run(TIP) == ""
    page.press("h")
    page.until("document.querySelectorAll('.card .veil').length > 0")
    assert page.run("getComputedStyle(document.querySelector('.card .veil')).display") == "block"
    assert page.run("document.getElementById('heat').getAttribute('aria-pressed')") == "true"


def test_every_number_says_formula_sample_and_source(opened):
    page = opened.page
    page.run(EVERY)
    page.run("scrollTo(0, document.body.scrollHeight)")
    silent = page.run(
        "[...document.querySelectorAll('.n')].filter(one => { one.dispatchEvent(new PointerEvent('pointerover', "
        "{bubbles: true})); const lines = document.querySelector('#tip'); return !['.title', '.formula', '.n', "
        "'.source'].every(name => lines.querySelector(name)?.textContent) }).map(one => one.outerHTML)"
    )
    assert silent == []
    assert page.run("document.querySelectorAll('.n').length") > 500


def test_a_heat_map_lies_over_its_picture(opened):
    page = opened.page
    page.run("document.getElementById('latents').scrollIntoView()")
    page.until("document.querySelectorAll('.card .picture').length > 0")
    page.press("h")
    of = "(one => { const b = one.getBoundingClientRect(); return [b.left, b.top, b.width, b.height].map(Math.round) })"
    first = "document.querySelector('.card .picture')"
    page.until(f"{first}.querySelector('img').complete")
    image, canvas = page.run(f"['img', 'canvas'].map(one => {of}({first}.querySelector(one)))")  # at once: it scrolls
    assert image == canvas and image[2] > 50
    latent = int(page.run("document.querySelector('.card h3 b').textContent"))
    strongest = int(opened.neurons.maps(latent)[0].argmax())
    place = page.run(f"(s => [parseFloat(s.left), parseFloat(s.top)])({first}.querySelector('.spot').style)")
    assert place == [25 * (strongest % 4), 25 * (strongest // 4)]
    veil = f"{first}.querySelector('canvas').getContext('2d')"
    assert page.run(f"{veil}.getImageData({strongest % 4}, {strongest // 4}, 1, 1).data[3]") == 0


def test_a_taxon_and_a_label_lead_to_their_latents(opened):
    page = opened.page
    page.run("document.querySelector('#labels a').click()")
    assert page.run(SHOWN) == [5] and page.run("document.activeElement.id") == "latent-5"
    page.run("document.querySelector('.tree button').click()")
    asked = page.run("document.querySelector('.tree button').dataset.latents").split(",")
    assert sorted(page.run(EVERY)) == sorted(map(int, asked))
    page.run("document.querySelector('#chosen button').click()")
    assert page.run(STATUS) == f"{W} of {W} latents"


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_screens_of_every_size_in_dark_and_light(opened, width, dark):
    page = opened.page
    page.look(width, 844, dark)
    page.open(opened.path)
    page.run("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert page.run("document.documentElement.scrollWidth") <= width
    ground = page.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) == dark
    assert contrast(page, "body") >= 7
    assert all(contrast(page, one) >= 4.5 for one in (".quiet", ".value.ms dd", ".value.matched dd", "main a"))


def contrast(page: Browser, selector: str) -> float:
    """Of text and page, WCAG 2.2."""
    style = "getComputedStyle(document.querySelector('{}')).{}"
    colours = [page.run(style.format(*of)) for of in ((selector, "color"), ("body", "backgroundColor"))]
    light, dark = sorted((luminance(one) for one in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
