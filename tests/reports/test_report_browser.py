"""The page in a real browser, wide and at a phone's width."""

from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("javascript", [True, False])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overflows_fails_or_is_fetched(browser, finished_run, width, javascript):
    context = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=javascript)
    page = context.new_page()
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((finished_run / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    images = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])")
    assert len(images) == 27 and all(done and natural > 0 and shown > 0 for done, natural, shown in images)
    assert messages == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert page.get_by_role("heading", level=2).count() == 11
    context.close()


def test_a_wide_table_scrolls_inside_its_own_container(browser, finished_run):
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto((finished_run / "report.html").as_uri())
    measure = "boxes => boxes.map(box => [box.scrollWidth, box.clientWidth])"
    widths = page.locator(".scroll").evaluate_all(measure)
    assert any(inner > outer for inner, outer in widths) and all(outer <= 390 for _, outer in widths)
    page.close()


def test_the_embedded_records_can_be_read_by_a_program(browser, finished_run, finished_metrics):
    page = browser.new_page()
    page.goto((finished_run / "report.html").as_uri())
    assert page.evaluate("JSON.parse(document.getElementById('metrics').textContent)") == finished_metrics
    page.close()
