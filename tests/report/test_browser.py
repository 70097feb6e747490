"""The facing pages in a real, headless Chromium: hover, keyboard, filter, sort, no network."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from diglot.report.alignment import Book
from diglot.report.pages import render_pages

FIXTURE = Path(__file__).parent / "fixtures" / "encoder"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def _missing() -> str | None:
    """Why the browser tests cannot run here, None if they can."""
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        return "no Chromium here: apt-get install chromium chromium-driver"
    if not shutil.which("chromedriver"):
        return "Chromium's driver is missing: apt-get install chromium-driver"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is missing: pip install selenium"
    return None


pytestmark = [
    pytest.mark.skipif(_missing() is not None, reason=str(_missing())),
    pytest.mark.xdist_group("browser"),
]


def load(name: str):
    return json.loads((FIXTURE / name).read_text("utf-8"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.add_argument("--window-size=1600,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / "pages.html"
    model = (FIXTURE / "model.py").read_text("utf-8")
    names = ("weight_map.json", "translation.json", "proof.json")
    path.write_text(render_pages(model, *(load(name) for name in names)), encoding="utf-8")
    return path


@pytest.fixture
def page(browser, page_file):
    """The page, opened afresh from disk; afterwards: no console message, no request but its own."""
    browser.get_log("performance")
    browser.get_log("browser")
    browser.set_window_size(1600, 1000)
    browser.get(page_file.as_uri())
    browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    yield browser
    assert browser.get_log("browser") == []
    assert requests(browser) == {page_file.as_uri()}


def requests(driver) -> set[str]:
    """Addresses that a page asked for: the browser's own and those of inlined data left out."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = {
        message["params"]["request"]["url"].partition("#")[0]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
        # The start page may still be loading when the test begins.
        and not message["params"]["documentURL"].startswith("chrome:")
    }
    return {url for url in urls if not url.startswith("data:")}


def hover(driver, element) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    ActionChains(driver).move_to_element(element).perform()


def line(driver, key: str):
    return driver.find_element("css selector", f'.ln[data-l="{key}"]')


def marked(driver, css: str = "hl") -> set[str]:
    return {
        element.get_attribute("data-l")
        for element in driver.find_elements("css selector", f".ln.{css}")
    }


def links() -> dict[str, set[str]]:
    """Every line of the fixture that has counterparts, with them."""
    book = Book((FIXTURE / "model.py").read_text("utf-8"), load("translation.json"))
    return {key: set(others) for key, others in book.links.items()}


def ribbons(driver) -> int:
    from selenium.webdriver.support.ui import WebDriverWait

    find = "return document.querySelectorAll('#threads path').length"
    WebDriverWait(driver, 5).until(lambda d: d.execute_script(find))
    return driver.execute_script(find)


@pytest.mark.parametrize("page_side", ["left", "right"])
def test_hovering_a_line_lights_up_what_became_of_it(page, page_side):
    # A line with several counterparts says more than one with a single one.
    key, others = max(
        (
            item
            for item in links().items()
            if item[0].startswith("p" if page_side == "left" else "k")
        ),
        key=lambda item: len(item[1]),
    )
    assert marked(page) == set()
    hover(page, line(page, key).find_element("css selector", "code"))
    assert marked(page) == {key, *others}
    assert ribbons(page) == len(others)
    status = page.find_element("id", "status").text
    file = "source.py" if page_side == "left" else "model.py"
    number = key.removeprefix("p0:").removeprefix("k")
    assert status.startswith(f"{file}:{number}")
    assert all(other.removeprefix("p0:").removeprefix("k") in status for other in others)
    hover(page, page.find_element("css selector", "h1"))
    assert marked(page) == set()


def test_a_click_pins_and_escape_lets_go(page):
    from selenium.webdriver.common.keys import Keys

    first, second = [key for key in links() if key.startswith("k")][:2]
    for key in (first, second):
        hover(page, line(page, key))
        line(page, key).find_element("css selector", "code").click()
    expected = {first, second, *links()[first], *links()[second]}
    hover(page, page.find_element("css selector", "h1"))
    assert marked(page, "pin") == expected
    button = line(page, first).find_element("css selector", "button.no")
    assert button.get_attribute("aria-pressed") == "true"
    page.find_element("css selector", "body").send_keys(Keys.ESCAPE)
    assert marked(page, "pin") == set()


def test_the_keyboard_walks_along_and_across(page):
    from selenium.webdriver.common.keys import Keys

    key = next(key for key in links() if key.startswith("p"))
    start = line(page, key).find_element("css selector", "button.no")
    assert start.get_attribute("tabindex") == "0"  # the first of its listing is a tab stop
    page.execute_script("arguments[0].focus()", start)
    assert marked(page) == {key, *links()[key]}

    def focused() -> str:
        return page.execute_script("return document.activeElement.closest('.ln').dataset.l")

    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert focused() in links()[key]
    page.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert focused() in {other for right in links()[key] for other in links()[right]}
    before = focused()
    page.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    after = focused()
    assert after != before and marked(page) == {after, *links()[after]}
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert after in marked(page, "pin")


def test_the_weight_table_filters_and_sorts(page):
    entries = load("weight_map.json")["entries"]
    field = page.find_element("id", "weight-filter")
    page.execute_script("arguments[0].scrollIntoView()", field)

    def shown() -> list[str]:
        return page.execute_script(
            "return [...document.querySelectorAll('#weight-table tbody tr')]"
            ".filter(row => row.offsetParent !== null)"
            ".map(row => row.cells[0].firstChild && row.cells[0].textContent.trim())"
        )

    assert len(shown()) == len(entries)
    field.send_keys("w_q transpose")
    wanted = [entry["target"] for entry in entries if "w_q" in entry["target"]]
    assert shown() == wanted
    count = page.find_element("id", "weight-count").text
    assert count == f"{len(wanted)} of {len(entries)} weights"
    field.clear()
    field.send_keys("x")
    field.clear()
    field.send_keys(" ")
    buffers = page.find_element("css selector", 'input[name="weight-kind"][value="buffer"] + span')
    buffers.click()
    assert len(shown()) == sum(entry["kind"] == "buffer" for entry in entries)
    page.find_element("css selector", 'input[name="weight-kind"][value=""] + span').click()
    head = page.find_elements("css selector", "#weight-table thead th")[-1]
    head.click()
    head.click()
    assert head.get_attribute("aria-sort") == "descending"
    assert shown()[0] == "embedding.embeddings"
    page.find_elements("css selector", "#weight-table thead th")[0].click()
    assert shown()[0] == "classifier.bias"


def test_margin_notes_stand_beside_their_lines(page):
    note = page.find_element("id", "note-1")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", note)
    target = line(page, note.get_attribute("data-lines").split()[0])
    assert note.rect["x"] >= target.rect["x"] + target.rect["width"]
    assert abs(note.rect["y"] - target.rect["y"]) < 60
    hover(page, note)
    assert marked(page) == set(note.get_attribute("data-lines").split())
    boxes = [item.rect for item in page.find_elements("css selector", ".spread .note")]
    for above, below in itertools.pairwise(boxes):
        assert above["y"] + above["height"] <= below["y"]


@pytest.mark.parametrize("width", [390, 900, 1366, 1920])
def test_no_width_scrolls_sideways(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


PROSE = ("--ink", "--soft", "--red", "--good", "--bad", "--open")
CODE = ("--kw", "--str", "--com", "--num", "--def", "--bi", "--dec")
GROUNDS = ("--paper", "--desk", "--tint")


def luminance(colour: str) -> float:
    """Relative luminance (WCAG) of ``#rrggbb``."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_ink_can_be_read_on_every_ground(page, theme):
    page.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    find = "return getComputedStyle(document.documentElement).getPropertyValue(arguments[0]).trim()"
    light = {name: luminance(page.execute_script(find, name)) for name in (*PROSE, *CODE, *GROUNDS)}
    weak = {}
    for ink in (*PROSE, *CODE):
        for ground in GROUNDS if ink in PROSE else ("--paper", "--tint"):
            low, high = sorted((light[ink], light[ground]))
            if (high + 0.05) / (low + 0.05) < 4.5:
                weak[ink, ground] = (high + 0.05) / (low + 0.05)
    assert weak == {}


def test_the_theme_button_goes_round(page):
    button = page.find_element("id", "theme")
    seen = []
    for _ in range(3):
        button.click()
        seen.append(page.execute_script("return document.documentElement.dataset.theme"))
    assert sorted(seen) == ["auto", "dark", "light"]
    while page.execute_script("return document.documentElement.dataset.theme") != "auto":
        button.click()


def test_hostile_source_runs_nothing(browser, tmp_path):
    nasty = "</script><img src=x onerror=\"document.title='owned'\">"
    info, weight_map = load("translation.json"), load("weight_map.json")
    for item in info["classes"]:
        item["target_class"] += nasty
    info["sources"]["source.py"] = info["sources"]["source.py"].replace("Two dense", nasty)
    info["notes"][0]["text"] = nasty
    weight_map["entries"][0]["target"] += nasty
    model = (FIXTURE / "model.py").read_text("utf-8").replace("Two dense", nasty)
    path = tmp_path / "pages.html"
    path.write_text(render_pages(model, weight_map, info, None), encoding="utf-8")
    browser.get_log("browser")
    browser.get(path.as_uri())
    assert "owned" not in browser.title
    assert browser.find_elements("css selector", "img") == []
    assert browser.get_log("browser") == []


def test_a_large_model_stays_fast(browser, tmp_path):
    """Twelve layers, a thousand lines on each side, five hundred weights."""
    info, weight_map, proof = (load(f"{n}.json") for n in ("translation", "weight_map", "proof"))
    model = (FIXTURE / "model.py").read_text("utf-8").rstrip("\n") + "\n"
    source = info["sources"]["source.py"].rstrip("\n") + "\n"
    rows, height, left = list(info["lines"]), model.count("\n"), source.count("\n")
    classes = list(info["classes"])
    for copy in range(1, 9):
        for row in info["lines"]:
            rows.append(
                {
                    "source_file": row["source_file"],
                    "source_line": row["source_line"] + copy * left,
                    "target_line": row["target_line"] + copy * height,
                }
            )
        for item in info["classes"]:
            moved = dict(item)
            moved["source_lines"] = [n + copy * left for n in item["source_lines"]]
            moved["target_lines"] = [n + copy * height for n in item["target_lines"]]
            classes.append(moved)
    info.update(lines=rows, classes=classes, sources={"source.py": source * 9})
    weight_map["entries"] = [
        {**entry, "target": f"{n}.{entry['target']}"}
        for n in range(12)
        for entry in weight_map["entries"]
    ]
    path = tmp_path / "pages.html"
    path.write_text(render_pages(model * 9, weight_map, info, proof), encoding="utf-8")
    browser.get(path.as_uri())
    ready = browser.execute_script(
        "const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd"
    )
    assert ready < 4000
    painted = browser.execute_script(
        "const line = document.querySelector('.ln.linked'); const t = performance.now();"
        "const over = () => line.dispatchEvent(new MouseEvent('mouseover', {bubbles: true}));"
        "for (let i = 0; i < 50; i++) { over();"
        " document.querySelector('#pages').dispatchEvent(new MouseEvent('mouseleave')); }"
        "return (performance.now() - t) / 50"
    )
    assert painted < 50
    sifted = browser.execute_script(
        "const field = document.getElementById('weight-filter'); const t = performance.now();"
        "field.value = 'kernel'; field.dispatchEvent(new Event('input'));"
        "document.body.offsetHeight; return performance.now() - t"
    )
    assert sifted < 1000
