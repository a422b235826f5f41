"""The page of a run in a real browser: filters, the viewer, and a thousand samples."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.manifest import append_entry, mask_rle
from utils.report import write_report
from utils.verdicts import VERDICTS_FILE, read_verdicts

selenium = pytest.importorskip("selenium", reason="needs selenium (requirements-eval.txt)")
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService, Keys  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

BROWSER = os.environ.get("CHROME") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs Chromium and chromedriver (Debian: chromium, chromium-driver)"
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
COUNT = 1000
CLASSES = ("open", "short", "spur", "hole")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand defects on one board; scores rise with the number, every tenth is rejected."""
    folder = tmp_path_factory.mktemp("run")
    for name in ("sample", "log", "attention"):
        (folder / name).mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (30, 30, 3), np.uint8)
    board = Image.fromarray(noise).resize((200, 200), Image.Resampling.BICUBIC)
    board.save(folder / "board.png")
    painted = np.array(board)
    painted[20:40, 30:60] = 255
    Image.fromarray(painted).save(folder / "sample/s.png")
    Image.fromarray(np.tile(np.arange(0, 240, 40, dtype=np.uint8), (8, 8))).save(folder / "attention/s.png")
    mask = mask_rle(np.ones((20, 30), bool), (30, 20), (200, 200))
    for n in range(COUNT):
        defect = {
            "class_name": CLASSES[n % 4], "class_id": n % 4, "line": 1, "window": [20, 10, 64], "scale": 1.0,
            "status": "rejected" if n % 10 == 0 else "painted", "attempt": 0, "box": [30, 20, 60, 40], "mask": mask,
            "scores": {"score": (n + 0.5) / COUNT, "area": n, "contrast": 9.0, "outside": 0.1, "agreement": 0.5},
        }  # fmt: skip
        entry = {
            "name": f"s{n:04d}", "status": "painted", "source": str(folder / "board.png"), "size": [200, 200],
            "files": {"sample": "sample/s.png", "mask": "sample/s.png", "attention": ["attention/s.png"]},
            "defects": [defect], "seed": 0, "config_sha256": "ab" * 32, "version": "1", "weights": {},
        }  # fmt: skip
        append_entry(folder / "manifest.jsonl", entry)
    return folder


@pytest.fixture(scope="module")
def browser(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1280,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=ChromeService(DRIVER))
    downloads = {"behavior": "allow", "downloadPath": str(run)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    driver.get(write_report(run).as_uri())
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Chrome) -> Chrome:
    """The page as it is first seen."""
    browser.execute_script(
        "if (viewer.open) viewer.close(); showMask.checked = false; wipe.value = 50; localStorage.clear();"
        "for (const key in verdicts) delete verdicts[key]; restore(); reset(); scrollTo(0, 0)"
    )
    return browser


def count(page: Chrome) -> str:
    return page.find_element(By.ID, "count").text


def cards(page: Chrome) -> list:
    return page.find_elements(By.CSS_SELECTOR, "#sheet .card")


def press(page: Chrome, key: str) -> None:
    page.switch_to.active_element.send_keys(key)


def test_only_the_cards_near_the_screen_exist(page: Chrome):
    assert count(page) == f"{COUNT} of {COUNT} defects"
    for place in (0, 5000, 20000, 10**7):
        page.execute_script("scrollTo(0, arguments[0]); draw()", place)
        assert 8 <= len(cards(page)) <= 80
    assert "s0999" in cards(page)[-1].text


def test_scrolling_keeps_the_cards_that_stay_in_sight_and_their_order(page: Chrome):
    for place in (0, 3000, 2600, 3400, 0):
        page.execute_script(
            "for (const c of sheet.children) c.seen = true; scrollTo(0, arguments[0]); draw()", place
        )
        names = [int(card.get_attribute("data-place")) for card in cards(page)]
        assert names == list(range(names[0], names[0] + len(names)))
        if place in (2600, 3400):
            kept = page.execute_script("return [...sheet.children].filter(c => c.seen).length")
            assert kept >= len(names) // 3


def test_filters_by_class_score_status_and_name(page: Chrome):
    chips = page.find_elements(By.CSS_SELECTOR, "#classes button")
    assert [chip.text.split()[0] for chip in chips] == sorted(CLASSES)
    chips[0].click()
    assert count(page) == "250 of 1000 defects"
    chips[1].click()
    assert count(page) == "500 of 1000 defects"
    page.execute_script("low.value = 0.9; low.dispatchEvent(new Event('input'))")
    assert count(page) == "50 of 1000 defects"
    page.find_element(By.ID, "reset").click()
    Select(page.find_element(By.ID, "status")).select_by_visible_text("rejected")
    assert count(page) == "100 of 1000 defects"
    page.find_element(By.ID, "search").send_keys("S055")
    assert count(page) == "1 of 1000 defects" and "s0550" in cards(page)[0].text


def test_a_filter_that_leaves_few_cards_does_not_widen_the_sheet(page: Chrome):
    # Without the scroll bar's room kept, every card was laid anew, under the reader's cursor
    width = "return sheet.clientWidth"
    before = page.execute_script(width)
    page.find_element(By.ID, "search").send_keys("s0550")
    assert len(cards(page)) == 1
    assert page.execute_script(width) == before


def test_histogram_filters_and_order_can_be_chosen(page: Chrome):
    bars = page.find_elements(By.CSS_SELECTOR, "#histogram button")
    assert len(bars) == 20 and bars[3].get_attribute("title") == "50 with score 0.15 to 0.20"
    bars[3].click()
    assert count(page) == "50 of 1000 defects"
    Select(page.find_element(By.ID, "sort")).select_by_visible_text("score, best first")
    assert "s0199" in cards(page)[0].text


def test_viewer_by_keys(page: Chrome):
    cards(page)[1].click()
    title = page.find_element(By.ID, "title")
    assert title.text == "short (2 of 1000)"
    press(page, "j")
    assert title.text == "spur (3 of 1000)"
    press(page, "k")
    press(page, "k")
    assert title.text == "open (1 of 1000)"
    assert not page.find_element(By.ID, "mask").is_displayed()
    press(page, "m")
    assert page.find_element(By.ID, "mask").is_displayed() and page.find_element(By.ID, "box").is_displayed()
    assert page.find_element(By.ID, "strip").is_displayed()
    assert (
        "0.25" not in page.find_element(By.ID, "facts").text
        and "s0000" in page.find_element(By.ID, "facts").text
    )
    press(page, Keys.ESCAPE)
    assert not page.find_element(By.ID, "viewer").is_displayed()


def test_slider_wipes_between_clean_and_painted(page: Chrome):
    cards(page)[2].click()
    wipe, before = page.find_element(By.ID, "wipe"), page.find_element(By.ID, "before")
    assert before.value_of_css_property("clip-path") == "inset(0px 50% 0px 0px)"
    wipe.send_keys(Keys.HOME)
    assert before.value_of_css_property("clip-path") == "inset(0px 100% 0px 0px)"
    wipe.send_keys(Keys.ARROW_RIGHT)  # moves the slider, not the viewer
    assert before.value_of_css_property("clip-path") == "inset(0px 99% 0px 0px)"
    assert page.find_element(By.ID, "title").text == "spur (3 of 1000)"


def test_the_slider_is_as_wide_as_the_image(page: Chrome):
    cards(page)[2].click()
    wipe, stage = page.find_element(By.ID, "wipe"), page.find_element(By.CSS_SELECTOR, ".stage").rect
    middle = stage["x"] + stage["width"] / 2
    for share in (0.0, 0.25, 0.5, 0.9, 1.0):
        pointer = ActionChains(page)
        pointer.move_to_element_with_offset(wipe, round((share - 0.5) * stage["width"]), 0).click().perform()
        assert abs(float(wipe.get_attribute("value")) - 100 * share) <= 1
        edge = page.find_element(By.ID, "edge").rect
        assert (
            abs(edge["x"] + edge["width"] / 2 - middle - (share - 0.5) * stage["width"])
            <= 0.01 * stage["width"]
        )


def test_the_whole_image_marks_the_place(page: Chrome):
    cards(page)[0].click()
    scene, mark = (page.find_element(By.CSS_SELECTOR, name).rect for name in ("#scene", "#scene div"))
    assert (
        abs((mark["x"] - scene["x"]) / scene["width"] - 4 / 200) < 0.01 and scene["height"] == scene["width"]
    )
    assert abs(mark["width"] / scene["width"] - 96 / 200) < 0.01
    painted = page.find_elements(By.CSS_SELECTOR, "#scene img")[1].rect
    assert painted == mark
    text = page.find_element(By.ID, "facts").text
    assert "0.1 gray levels" in text and "how alike the change and what the prior wanted are" in text


def verdict_buttons(card) -> list[str]:
    return [
        button.get_attribute("aria-pressed")
        for button in card.find_elements(By.CSS_SELECTOR, ".judging button")
    ]


def test_verdicts_by_buttons_and_keys_are_remembered_and_filtered(page: Chrome):
    tally, title = page.find_element(By.ID, "tally"), page.find_element(By.ID, "title")
    assert tally.text == "0 accepted, 0 rejected by eye, 900 not judged"
    assert verdict_buttons(cards(page)[0]) == []  # the program rejected it: no image holds it
    cards(page)[1].find_elements(By.CSS_SELECTOR, ".judging button")[1].click()
    assert tally.text == "0 accepted, 1 rejected by eye, 899 not judged"
    assert verdict_buttons(cards(page)[1]) == ["false", "true"]
    cards(page)[2].find_element(By.CSS_SELECTOR, ".look").click()
    press(page, "a")  # and on to the next one
    assert title.text == "hole (4 of 1000)"
    press(page, "r")
    press(page, Keys.ARROW_LEFT)
    assert title.text == "hole (4 of 1000)"
    press(page, "u")
    press(page, Keys.ESCAPE)
    press(page, Keys.ARROW_RIGHT)  # on the sheet: from the fourth card to the fifth
    press(page, "a")
    assert tally.text == "2 accepted, 1 rejected by eye, 897 not judged"
    page.refresh()
    assert page.find_element(By.ID, "tally").text == "2 accepted, 1 rejected by eye, 897 not judged"
    Select(page.find_element(By.ID, "verdict")).select_by_visible_text("accepted")
    assert [card.text.split("s0")[1][:3] for card in cards(page)] == ["002", "004"]
    Select(page.find_element(By.ID, "verdict")).select_by_visible_text("not judged")
    assert count(page) == "897 of 1000 defects"


def test_verdicts_are_saved_as_the_export_reads_them(page: Chrome, run: Path):
    cards(page)[1].find_elements(By.CSS_SELECTOR, ".judging button")[1].click()
    cards(page)[2].find_elements(By.CSS_SELECTOR, ".judging button")[0].click()
    assert page.find_element(By.ID, "where").text == str(run / VERDICTS_FILE)
    page.find_element(By.ID, "save").click()
    WebDriverWait(page, 20).until(lambda _: (run / VERDICTS_FILE).is_file())
    assert read_verdicts(run / VERDICTS_FILE) == {("s0001", 0): False, ("s0002", 0): True}
    odd = page.execute_script("return verdictsFile.toString()")
    assert (
        page.execute_script(f"const text = 'a,\"b'; return ({odd.replace('c.name', 'text')})()").count(
            '"a,""b"'
        )
        == 2
    )


def test_box_lies_where_the_defect_is(page: Chrome):
    cards(page)[0].click()
    press(page, "m")
    stage, box = (page.find_element(By.CSS_SELECTOR, name).rect for name in (".stage", "#box"))
    # The view is 96 px at (4, 0): the box of 30 x 20 px at (30, 20)
    assert abs((box["x"] - stage["x"]) / stage["width"] - 26 / 96) < 0.01
    assert abs((box["y"] - stage["y"]) / stage["height"] - 20 / 96) < 0.01
    assert abs(box["width"] / stage["width"] - 30 / 96) < 0.01


def test_nothing_is_asked_of_the_network_and_no_error_is_logged(page: Chrome):
    assert page.get_log("browser") == []
    asked = [
        line["message"] for line in page.get_log("performance") if "requestWillBeSent" in line["message"]
    ]
    assert asked and not [text for text in asked if '"url":"http' in text]


def test_narrow_screens_do_not_scroll_sideways(page: Chrome):
    page.set_window_size(500, 800)
    page.execute_script("draw()")
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    page.set_window_size(1280, 900)
