"""The report in a real browser: a headless Chromium, driven by Playwright."""

import re
import shutil

import pytest

from bayesopt import report
from bayesopt.report.page import SECTIONS
from tests.report.runs import hostile, trained

playwright = pytest.importorskip("playwright.sync_api", reason="needs: pip install playwright")


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium here; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module", params=[trained, hostile], ids=["trained", "hostile"])
def path(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(request.param(), path)
    return path


@pytest.fixture
def opened(browser, path):
    """Open the report, `(width, colours) -> page`; what it complains about or loads must be nothing."""
    contexts, complaints, requests = [], [], []

    def open_(width=1100, colours="light"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=colours)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []
    assert set(requests) == {path.as_uri()}


def test_all_sections_are_rendered_without_a_complaint(opened):
    page = opened()
    for key, title, _ in SECTIONS:
        section = page.locator(f"section#{key}")
        assert section.locator("h2").inner_text() == title
        assert section.bounding_box()["height"] > 60
    shapes = page.locator("section svg").all()
    assert len(shapes) >= 5
    assert all(shape.bounding_box()["width"] > 100 for shape in shapes)


@pytest.mark.parametrize("width", [360, 768])
def test_a_phone_scrolls_down_but_not_sideways(opened, width):
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    chart = page.locator("#progress svg").bounding_box()
    assert chart["width"] <= width
    assert page.locator("#progress text").first.bounding_box()["height"] >= 8  # legible


def test_light_and_dark(opened):
    def look(colours):
        style = "getComputedStyle(document.body)"
        page = opened(colours=colours)
        found = page.evaluate(f"[{style}.color, {style}.backgroundColor]")
        return [sum(map(int, re.findall(r"\d+", colour))) for colour in found]

    (ink, paper), (chalk, board) = look("light"), look("dark")
    assert ink < 150 < 600 < paper and board < 150 < 600 < chalk


def test_the_keyboard_reaches_marks_tables_and_sections(opened):
    page = opened()
    names = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        names.add(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert any(name and "a new best" in name for name in names)
    assert "The best trials" in names
    page.locator("nav a", has_text="Failures").click()
    assert page.url.endswith("#failures")
    page.locator("#failures summary").press("Enter")
    assert page.locator("#failures details table").is_visible()


def test_marks_say_what_they_are_when_pointed_at(opened):
    page = opened()
    titles = page.locator("#progress svg > * > title").all_text_contents()
    assert sum(title.startswith("trial ") for title in titles) >= 20
