"""The way of a radiologist, in a real browser."""

import shutil
from datetime import date

import numpy as np
import pytest
from PIL import Image

from hipedge.rules.site_rule import site_rule
from hipedge.store.feedback import Feedback, Verdict
from hipedge.store.store import Store
from hipedge.types import Category, Side
from tests.builders import scored_hip, screened
from tests.dicom.dicom_films import JPEG_2000_LOSSLESS
from tests.dicom.dicom_films import film as dicom_film

from .conftest import PASSWORD, placed, served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync"]  # fmt: skip
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium to open the pages in")


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def site(place):
    """A site with an urgent film in JPEG 2000, with scale and window, and a film to follow it."""
    values = np.full((1600, 1400), 600, np.uint16)
    values[:, :700] += np.linspace(0, 2500, 700).astype(np.uint16)
    values[700:900, 500:900] = 3500
    path = place.folder / "urgent.dcm"
    path.write_bytes(
        dicom_film(values, JPEG_2000_LOSSLESS, bits=12, WindowCenter=1800, WindowWidth=3000,
                   PixelSpacing=[0.2, 0.2])
    )  # fmt: skip
    rule = site_rule(place.card, place.settings)
    right = placed(scored_hip(Category.FEMORAL_NECK_FRACTURE, Side.RIGHT), 100, 400, 700, 1000)
    left = placed(scored_hip(Category.NORMAL, Side.LEFT), 700, 400, 1300, 1000)
    place.fracture("earlier")
    place.record(screened(place.described(path), right, left, rule=rule))
    return place


@pytest.fixture
def page(site, chromium):
    """A page of the site, with what the browser complains of."""
    with served(site.app()) as address:
        context = chromium.new_context(viewport={"width": 1300, "height": 900}, base_url=address)
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.set_default_timeout(15_000)
        yield page
        context.close()


def log_in(page, user="rita"):
    page.goto("/login")
    page.fill("#user", user)
    page.fill("#password", PASSWORD)
    page.click("button.primary")
    page.wait_for_selector("table.cases")


def open_first(page):
    page.click("a.open")
    page.wait_for_selector("canvas[data-state=ready]")


def picture_of(page):
    """The gray values of the canvas (H, W)."""
    from io import BytesIO

    shot = page.locator("canvas").screenshot()
    return np.asarray(Image.open(BytesIO(shot)).convert("L")).astype(int)


def test_the_whole_way_of_a_radiologist(site, page):
    log_in(page)
    lines = page.locator("table.cases tbody tr")
    assert lines.count() == 2
    assert "urgent" in lines.first.inner_text()
    open_first(page)
    assert page.locator("#message").is_hidden()
    assert picture_of(page).std() > 20

    page.check("#hip0-wrong")
    page.select_option("#hip0-as", "intertrochanteric_fracture")
    page.fill("#hip0-note", "displaced")
    page.locator(".hipcard").first.locator("button.primary").click()
    page.wait_for_selector("text=You: wrong")
    with Store(site.settings.db, read_only=True) as store:
        (recorded,) = Feedback(store).present()
    assert (recorded.verdict, recorded.reader) == (Verdict.WRONG, "rita")
    assert recorded.category is Category.INTERTROCHANTERIC_FRACTURE

    page.click("#next")
    page.wait_for_selector("canvas[data-state=ready]")
    assert "earlier.png" in page.content()
    page.click("text=Worklist >> nth=0")
    page.wait_for_selector("table.cases")
    assert page.locator("table.cases tbody tr").count() == 1
    page.click("text=Log out")
    page.wait_for_selector("#password")
    assert page.complaints == []


def test_choosing_a_category_chooses_the_answer_that_it_belongs_to(page):
    log_in(page)
    open_first(page)
    page.select_option("#hip0-as", "osteoarthritis")
    assert page.is_checked("#hip0-wrong")


def test_the_viewer_by_keyboard_alone(page):
    log_in(page)
    open_first(page)
    before = picture_of(page)
    page.keyboard.press("i")
    page.wait_for_timeout(150)
    inverted = picture_of(page)
    place = before.shape[0] // 5, before.shape[1] // 2  # outside the boxes
    assert abs(before[place] + inverted[place] - 255) < 12
    assert "inverted" in page.inner_text("#readout")
    page.keyboard.press("i")
    for key, text in [("r", "rotated by 90°"), ("f", "left and right are reversed")]:
        page.keyboard.press(key)
        page.wait_for_timeout(100)
        assert text in page.inner_text("#readout")
    for key in "rrrf":
        page.keyboard.press(key)
    page.wait_for_timeout(150)
    assert np.abs(picture_of(page) - before).max() < 3

    page.keyboard.press("]")
    page.wait_for_timeout(100)
    assert "wide at" in page.inner_text("#readout")
    page.keyboard.press("1")
    page.wait_for_timeout(100)
    assert "as sent" in page.inner_text("#readout")

    page.keyboard.press("s")
    page.wait_for_timeout(150)
    assert page.get_attribute("[data-toggle=both]", "aria-pressed") == "true"
    page.keyboard.press("s")
    for key in ("+", "ArrowLeft", "m", "h", "b", "0"):
        page.keyboard.press(key)
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert page.complaints == []


def test_what_is_typed_into_a_note_is_no_command(page):
    log_in(page)
    open_first(page)
    page.locator("#hip0-note").press_sequentially("if it is")
    assert page.get_attribute("[data-toggle=invert]", "aria-pressed") == "false"


def test_the_mouse_moves_the_window_the_film_and_its_size(page):
    log_in(page)
    open_first(page)
    box = page.locator("canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(dx, dy, button="left"):
        page.mouse.move(x, y)
        page.mouse.down(button=button)
        page.mouse.move(x + dx, y + dy, steps=4)
        page.mouse.up(button=button)
        page.wait_for_timeout(150)

    drag(60, 30)
    assert "wide at" in page.inner_text("#readout")
    before = picture_of(page)
    drag(80, 0, "right")
    assert np.abs(picture_of(page) - before).mean() > 3
    size = page.inner_text("#readout").split(" ·")[0]
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(400)
    assert page.inner_text("#readout").split(" ·")[0] != size
    page.mouse.dblclick(x, y)
    page.wait_for_timeout(200)
    assert page.inner_text("#readout").split(" ·")[0] == size


def test_the_ruler_measures_in_mm_as_the_header_says(site, page):
    log_in(page)
    open_first(page)
    page.keyboard.press("l")
    lengths = page.evaluate(
        """async () => {
          const viewer = document.querySelector("script[src*=viewer]").src;
          const { Pane } = await import(viewer.replace("viewer", "pane"));
          const film = JSON.parse(document.getElementById("film-data").textContent);
          const pane = new Pane({ data: film });
          pane.frame = { x: 0, y: 0, width: 700, height: 800 };
          pane.turns = 1;
          pane.flipped = true;
          pane.fit([0, 0, film.columns, film.rows]);
          const point = pane.toFilm(pane.toScreen([123, 456]));
          return [film.spacing, point, film.doubtful];
        }"""
    )
    assert lengths[0] == [0.2, 0.2]
    assert lengths[1] == pytest.approx([123, 456])
    assert lengths[2] is False
    assert "too long by the magnification" in " ".join(page.inner_text(".doubt").split())


def test_the_heat_map_is_drawn_as_the_cells_that_it_has(page):
    log_in(page)
    open_first(page)
    page.keyboard.press("b")
    page.wait_for_timeout(100)
    before = picture_of(page)
    page.keyboard.press("h")
    page.fill("#opacity", "100")
    page.wait_for_timeout(200)
    change = np.abs(picture_of(page) - before) > 3
    # The maps of these hips have 2 × 2 cells; the edge of a cell is one line of pixels.
    rows = np.flatnonzero(change.any(axis=1))
    edges = np.abs(np.diff(change.sum(axis=1)))
    assert len(rows) > 100
    assert np.count_nonzero(edges > 20) <= 8


def test_the_earlier_film_of_the_patient_lies_beside_the_present_one(site, page):
    for name, year in (("older", 2024), ("present", 2025)):
        site.fracture(name, patient="p1", studied_on=date(year, 3, 1), study_instance_uid=name)
    log_in(page)
    page.goto("/case/4")
    page.wait_for_selector("canvas[data-state=ready]")
    alone = picture_of(page)
    page.keyboard.press("e")
    page.wait_for_selector("canvas[data-earlier=ready]")
    page.wait_for_timeout(300)
    assert page.get_attribute("[data-toggle=earlier]", "aria-pressed") == "true"
    both = picture_of(page)
    left, right = np.array_split(both, 2, axis=1)
    middle = slice(both.shape[0] // 4, both.shape[0] // 2)
    assert left.std() > 60
    assert right.std() > 60
    # Windows, inversion and rotation are of both; lengths of the one that they are measured on.
    page.keyboard.press("i")
    page.wait_for_timeout(200)
    inverted = np.array_split(picture_of(page), 2, axis=1)[1]
    assert np.abs(inverted.astype(int) - right)[middle].mean() > 30
    page.keyboard.press("i")
    page.keyboard.press("s")  # both hips instead
    assert page.get_attribute("[data-toggle=earlier]", "aria-pressed") == "false"
    page.keyboard.press("s")
    page.wait_for_timeout(200)
    assert np.abs(picture_of(page) - alone).mean() < 1
    assert [entry.event for entry in site.audit()[:2]] == ["film", "film"]
    assert page.complaints == []


def test_an_earlier_film_that_is_gone_leaves_the_present_one(site, page):
    for name, year in (("older", 2024), ("present", 2025)):
        site.fracture(name, patient="p1", studied_on=date(year, 3, 1), study_instance_uid=name)
    (site.folder / "older.png").unlink()
    log_in(page)
    page.goto("/case/4")
    page.wait_for_selector("canvas[data-state=ready]")
    page.click("[data-toggle=earlier]")
    page.wait_for_selector("canvas[data-earlier=failed]")
    assert "The earlier film" in page.inner_text("#message")
    assert picture_of(page).std() > 20


def test_a_film_that_is_gone_says_so_instead_of_a_black_picture(site, page):
    (site.folder / "urgent.dcm").unlink()
    log_in(page)
    page.click("a.open")
    page.wait_for_selector("canvas[data-state=failed]")
    assert "no longer where it was" in page.inner_text("#message")


def test_an_open_list_shows_what_arrives(site, page):
    page.add_init_script(
        "const wait = window.setInterval;window.setInterval = (action) => wait(action, 200);"
    )
    log_in(page)
    page.wait_for_timeout(600)
    site.fracture("arriving")
    page.wait_for_selector("text=arriving.png")
    page.wait_for_function("document.getElementById('news').textContent.includes('1 new urgent')")


def test_hostile_names_do_not_run_in_the_browser(site, page):
    hostile = "<img src=x onerror=alert(1)>"
    film = site.film("plain", sop_instance_uid=f"1.2.{hostile}", manufacturer=hostile)
    rule = site_rule(site.card, site.settings)
    hip = scored_hip(Category.FEMORAL_NECK_FRACTURE)
    site.record(screened(film, placed(hip, 5, 5, 90, 90), rule=rule))
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    log_in(page)
    open_first(page)
    assert hostile in page.inner_text(".facts")
    assert dialogs == []
    assert page.complaints == []


def test_texts_have_the_contrast_that_wcag_asks_for_and_controls_have_names(page):
    log_in(page)
    for address in ("/", "/case/2", "/dashboard?days=365", "/agreement"):
        page.goto(address)
        weak = page.evaluate(CONTRAST)
        assert weak == [], address
        nameless = page.evaluate(NAMELESS)
        assert nameless == [], address


def test_nothing_is_wider_than_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 800})
    log_in(page)
    for address in ("/", "/case/2", "/dashboard?days=365", "/agreement"):
        page.goto(address)
        assert page.evaluate(TOO_WIDE) == [], address


def test_the_dashboard_draws_what_it_says(site, page):
    log_in(page)
    page.click("text=Dashboard")
    page.wait_for_selector("svg.plot")
    plot = page.get_by_role("img", name="Films a day")
    assert plot.count() == 1
    bar = plot.locator("rect.screened")
    assert bar.count() == 1
    frame, box = plot.bounding_box(), bar.bounding_box()
    # Two films, on an axis up to 2: the last of 30 days, as high as the plot.
    assert box["height"] == pytest.approx(190, abs=1)
    assert box["x"] > frame["x"] + 0.9 * frame["width"]
    labels = page.locator("svg.plot text.up").all_text_contents()
    assert labels[:3] == ["0", "1", "2"]
    # Labels of the axis lie beside the plot, and within the page.
    for label in page.locator("svg.plot text").all():
        assert label.bounding_box()["x"] >= page.locator(".card").first.bounding_box()["x"]
    page.click("text=365 days")
    page.wait_for_selector("a[aria-current=page] >> text=365 days")
    page.click("text=Films and times as a table")
    assert page.locator("table.log tbody tr").count() == 1
    assert page.complaints == []


def test_a_long_page_ends_with_its_footer(page):
    page.set_viewport_size({"width": 390, "height": 500})
    log_in(page)
    page.goto("/dashboard")
    bottom = "(e) => e.getBoundingClientRect().bottom"
    end = page.locator("main").evaluate(bottom)
    assert page.locator("footer").evaluate("(e) => e.getBoundingClientRect().top") >= end - 1


TOO_WIDE = """() => [...document.querySelectorAll("body *")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".stage, .scroll"))
  .map((e) => e.outerHTML.slice(0, 80))"""
# WCAG 2.2, 1.4.3: 4.5:1 for text, by the relative luminance of both colours.
CONTRAST = """() => {
  const light = (c) => (c <= 10.31 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0.5) return c.slice(0, 3);
    }
    return [16, 20, 24];
  };
  const weak = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!text || element.offsetHeight === 0 || element.tagName === "SCRIPT") continue;
    const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) weak.push([element.tagName, element.textContent.trim(), ratio]);
  }
  return weak;
}"""
NAMELESS = """() => [...document.querySelectorAll(
    "button, input:not([type=hidden]), select, textarea, a[href], canvas")]
  .filter((e) => !(e.textContent.trim() && e.tagName !== "SELECT" && e.tagName !== "TEXTAREA")
    && !e.getAttribute("aria-label") && !(e.labels && e.labels.length))
  .map((e) => e.outerHTML.slice(0, 80))"""
