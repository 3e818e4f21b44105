"""The page in a real browser, against the real gateway with a planner that plays written runs."""

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.contracts.errors import Unavailable
from tests.fakes import plan_runs
from tests.fakes.gateway import gateway_app, script_of
from tests.fakes.loopback import serve
from tests.fakes.planner import FakePlanner

playwright = pytest.importorskip("playwright.async_api", reason="Playwright is not installed")
expect = playwright.expect

CHROMIUM = Path("/usr/bin/chromium")
_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_WAIT_MS = 15_000
EXAMPLE = "In nautical miles, what is the distance between Dallas and Toronto?"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.access(CHROMIUM, os.X_OK), reason=f"runs where {CHROMIUM} is installed"
    ),
]


class Opened:
    """The page, and what the browser complained about."""

    def __init__(self, page: "playwright.Page", planner: FakePlanner, url: str) -> None:
        self.page = page
        self.planner = planner
        self.url = url
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._note)
        page.set_default_timeout(_WAIT_MS)

    def _note(self, message: "playwright.ConsoleMessage") -> None:
        self.complaints += [message.text] * (message.type == "error")

    async def ask(self, text: str) -> None:
        await self.page.get_by_role("textbox", name="Instruction").fill(text)
        await self.page.get_by_role("textbox", name="Instruction").press("Enter")

    def find(self, selector: str) -> "playwright.Locator":
        return self.page.locator(selector)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator["playwright.Browser"]:
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=str(CHROMIUM), args=_ARGS)
        yield browser
        await browser.close()


@pytest.fixture
async def opened(browser: "playwright.Browser") -> AsyncIterator[Opened]:
    planner = FakePlanner(script=script_of)
    async with serve(gateway_app(planner, max_runs=4, control=planner)) as url:
        page = await browser.new_page()
        opened = Opened(page, planner, url)
        await page.goto(url)
        yield opened
        await page.close()


async def test_a_person_sees_apis_steps_and_answer_live(opened):
    opened.planner.hold(after=7)  # retrieved, asked, three pieces, replied, called
    await opened.ask(EXAMPLE)
    await expect(opened.find(".api .name").first).to_have_text("find_distance")
    await expect(opened.find(".api .score").first).to_have_text("0.842")
    await expect(opened.find(".step")).to_have_count(1)
    await expect(opened.find(".call .end")).to_have_text("calling…")
    await expect(opened.find("#stop")).to_be_visible()
    opened.planner.release()
    await expect(opened.find(".card.answer .words")).to_have_text(
        "Dallas and Toronto are 1045.9 nautical miles apart."
    )
    await expect(opened.find(".step")).to_have_count(5)
    await expect(opened.find("#run")).to_be_visible()
    assert opened.complaints == []


async def test_a_reply_is_shown_while_it_is_written(opened):
    opened.planner.hold(after=4)
    await opened.ask(EXAMPLE)
    await expect(opened.find(".text.writing")).to_have_text("The lookup service knows distances ")
    opened.planner.release()
    await expect(opened.find(".text.writing")).to_have_count(0)


async def test_a_step_shows_arguments_observation_source_and_latency(opened):
    await opened.ask(EXAMPLE)
    call = opened.find(".step").nth(2).locator(".call")
    await expect(call.locator(".name")).to_have_text("distance_between_cities")
    await expect(call.locator("dt")).to_have_text(["origin", "destination"])
    await expect(call.locator("dd")).to_have_text(["Paris", "Tokyo"])
    await expect(call.locator(".badge")).to_have_text("custom")
    await expect(call.locator(".latency")).to_have_text("4.2 ms")
    await expect(call.locator(".observation")).to_contain_text('"distance_km": 9713')


# Ratio of relative luminances of an element's text and its nearest opaque background (WCAG 2.2).
_CONTRAST = """element => {
  const channels = color => color.match(/[\\d.]+/g).map(Number);
  const luminance = color => {
    const [r, g, b] = channels(color).map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  const paint = e => getComputedStyle(e).backgroundColor;
  while (channels(paint(behind))[3] === 0) behind = behind.parentElement;
  const [x, y] = [luminance(getComputedStyle(element).color), luminance(paint(behind))];
  return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
}"""


async def test_who_answered_is_told_by_words_and_a_simulation_warns(opened):
    await opened.ask("sources")
    await expect(opened.find(".card.answer")).to_be_visible()
    await expect(opened.find(".call .badge")).to_have_text(
        ["live", "custom", "replay", "remote", "simulated by a model", "api not working"]
    )
    await expect(opened.find(".age")).to_have_text(["recorded 3 days ago"])
    await expect(opened.find(".caution")).to_have_text(
        ["A language model made this up; the API was not called."]
    )
    titles = [await badge.get_attribute("title") for badge in await opened.find(".badge").all()]
    assert len(set(titles[:5]) - {""}) == 5
    assert opened.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_badges_can_be_read_and_told_apart_in_both_themes(opened, scheme):
    await opened.page.emulate_media(color_scheme=scheme)
    await opened.ask("sources")
    await expect(opened.find(".card.answer")).to_be_visible()
    shown = await opened.find(".call .badge, .age, .caution").all()
    contrasts = [await element.evaluate(_CONTRAST) for element in shown]
    assert min(contrasts) >= 4.5, contrasts
    look = "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor].join()"
    looks = [await badge.evaluate(look) for badge in await opened.find(".call .badge").all()]
    assert len(set(looks)) == 6


async def test_going_back_is_marked_and_the_tree_is_indented(opened):
    await opened.ask(EXAMPLE)
    await expect(opened.find(".card.answer")).to_be_visible()
    await expect(opened.find(".turn")).to_have_text("Going back to the start to try another way")
    await expect(opened.find(".step.abandoned .marker")).to_have_text(["1", "2"])
    await expect(opened.find(".step.solution .marker")).to_have_text(["3", "4", "5"])
    lefts = [
        (await marker.bounding_box())["x"] for marker in await opened.find(".step .marker").all()
    ]
    depths = [round((left - lefts[0]) / 22) for left in lefts]
    assert depths == [0, 1, 0, 1, 2]


async def test_the_totals_end_the_run(opened):
    await opened.ask(EXAMPLE)
    await expect(opened.find(".totals span")).to_have_text(
        ["5 model calls", "3 tool calls", "3,217 tokens", "2.4 s"]
    )


async def test_markup_of_models_and_tools_stays_text(opened):
    await opened.ask("attack")
    await expect(opened.find(".card.answer .words")).to_have_text(plan_runs.HOSTILE)
    await expect(opened.find(".step .text").first).to_have_text(plan_runs.HOSTILE)
    await expect(opened.find(".observation").first).to_have_text(plan_runs.HOSTILE)
    await expect(opened.find("dt")).to_have_text(plan_runs.HOSTILE)
    await expect(opened.find(".api .name")).to_have_text("api<u>")
    assert (
        await opened.find("main img, main script, main u, main i, main b:not(.totals b)").count()
        == 0
    )
    assert await opened.page.title() == "Toolwright"
    assert opened.complaints == []


async def test_stop_cancels_the_run_and_shows_how_it_ended(opened):
    opened.planner.hold(after=2)
    await opened.ask(EXAMPLE)
    await expect(opened.find(".step")).to_have_count(1)
    await opened.page.get_by_role("button", name="Stop").click()
    await expect(opened.find("#outcome .title")).to_have_text("Cancelled")
    await expect(opened.find("#outcome .totals")).to_be_visible()
    await expect(opened.find(".step.busy")).to_have_count(0)
    await expect(opened.find("#run")).to_be_focused()
    run = await opened.planner.wait_closed(within_s=5)
    assert (run.cancelled, run.finished) == (True, False)
    assert opened.complaints == []


async def test_stop_leaves_a_run_that_cannot_be_cancelled_by_name(opened):
    opened.planner.hold(after=2)
    await opened.page.route("**/cancel", lambda route: route.abort())
    await opened.ask(EXAMPLE)
    await expect(opened.find(".step")).to_have_count(1)
    await opened.page.get_by_role("button", name="Stop").click()
    await expect(opened.find("#outcome .title")).to_have_text("Stopped")
    run = await opened.planner.wait_closed(within_s=5)
    assert (run.cancelled, run.finished) == (False, False)


@pytest.mark.parametrize("decision", ["Approve", "Refuse"])
async def test_a_person_decides_about_a_call_that_changes_something(opened, decision):
    opened.planner.hold(after=5)  # retrieved, asked, replied, called, approval wanted
    await opened.ask("order")
    asked = opened.page.get_by_role("group", name="Approval")
    await expect(asked).to_contain_text("changes something (write)")
    await expect(opened.find(".call .end")).to_have_text("waiting for you…")
    await expect(opened.find(".call dd")).to_have_text(plan_runs.HOSTILE)
    await asked.get_by_role("button", name=decision).click()
    await expect(opened.find(".card.answer")).to_be_visible()
    await expect(asked).to_have_count(0)
    assert opened.planner.decisions == [(1, decision == "Approve")]
    assert opened.planner.runs[0].request.ask_approval
    assert opened.complaints == []


async def test_a_decision_that_comes_too_late_is_told(opened):
    opened.planner.hold(after=5)
    await opened.ask("order")
    refusal = '{"title": "Not found", "status": 404, "detail": "no such call waits"}'
    await opened.page.route("**/calls/*", lambda route: route.fulfill(status=404, body=refusal))
    await opened.page.get_by_role("button", name="Approve").click()
    asked = opened.page.get_by_role("group", name="Approval")
    await expect(asked).to_contain_text("Approve failed: no such call waits")
    await expect(asked.get_by_role("button", name="Refuse")).to_be_enabled()


async def test_a_run_that_waits_shows_its_position(opened):
    opened.planner.hold(after=1)
    await opened.ask("effort")
    await expect(opened.find("#progress")).to_contain_text("waiting, position 3")
    opened.planner.release()
    await expect(opened.find(".card.answer")).to_be_visible()


async def test_what_the_model_says_about_the_search_is_folded_between_the_steps(opened):
    await opened.ask("effort")
    await expect(opened.find(".deliberation .purpose")).to_have_text(["value", "rank"])
    await expect(opened.find(".deliberation .badge")).to_have_text(["no verdict"])
    whole = opened.find(".deliberation pre").first
    await expect(whole).to_be_hidden()
    await opened.find(".deliberation summary").first.click()
    await expect(whole).to_contain_text(f"{plan_runs.HOSTILE} is worth\na 7.")
    assert await opened.page.title() == "Toolwright"


async def test_a_best_effort_is_an_answer_that_says_what_it_is(opened):
    await opened.ask("effort")
    await expect(opened.find(".card .title span")).to_have_text("Best effort")
    await expect(opened.find(".card .words")).to_have_text(f"About 3.5 m {plan_runs.HOSTILE}")
    await expect(opened.find(".card .why")).to_contain_text("max_llm_calls=4 was reached")
    await expect(opened.find(".step.solution")).to_have_count(0)
    await expect(opened.find(".call .badge")).to_have_text(["custom", "custom", "reused"])
    assert opened.complaints == []


async def test_a_kept_run_is_named_at_its_end(opened):
    await opened.ask("order")
    await expect(opened.find(".totals .kept")).to_have_text("kept as written-run")


async def test_escape_stops_and_a_new_run_may_follow(opened):
    opened.planner.hold(after=2)
    await opened.ask(EXAMPLE)
    await expect(opened.find(".step")).to_have_count(1)
    await opened.page.keyboard.press("Escape")
    await expect(opened.find("#outcome .title")).to_have_text("Cancelled")
    await opened.ask("again")
    await expect(opened.find(".card.answer .words")).to_have_text("again")


async def test_shift_and_enter_add_a_line_and_enter_runs(opened):
    box = opened.page.get_by_role("textbox", name="Instruction")
    await box.fill("one")
    await box.press("Shift+Enter")
    await box.type("two")
    assert opened.planner.runs == []
    await box.press("Enter")
    await expect(opened.find(".card.answer")).to_be_visible()
    assert opened.planner.runs[0].request.instruction == "one\ntwo"


async def test_an_example_runs_with_one_click(opened):
    await opened.page.get_by_role("button", name=EXAMPLE).click()
    await expect(opened.find(".card.answer")).to_be_visible()


async def test_method_and_number_of_apis_are_sent(opened):
    await opened.page.get_by_label("Method").select_option("ReAct, 1 chain")
    await opened.page.get_by_label("APIs to retrieve").fill("9")
    await opened.ask("hi")
    await expect(opened.find(".card.answer")).to_be_visible()
    request = opened.planner.runs[0].request
    assert (request.method, request.top_k) == ("CoT@1", 9)


@pytest.mark.parametrize(
    ("top_k", "text", "shown"),
    [
        ("1000000000", "hi", "less than or equal to 100"),
        ("0", "hi", "greater than or equal to 1"),
        ("5", "   ", "send the instruction to solve"),
    ],
)
async def test_a_refusal_is_shown_as_the_gateway_words_it(opened, top_k, text, shown):
    await opened.page.get_by_label("APIs to retrieve").fill(top_k)
    await opened.ask(text)
    alert = opened.page.get_by_role("alert")
    await expect(alert).to_contain_text("Invalid argument (400)")
    await expect(alert).to_contain_text(shown)


async def test_a_service_that_fails_in_the_middle_is_named_below_the_steps(opened):
    await opened.ask("break")
    await expect(opened.find("#outcome .card.failure")).to_contain_text("refuses connections")
    await expect(opened.find(".step")).to_have_count(2)


async def test_a_planner_that_is_down_is_shown(opened):
    opened.planner.error = Unavailable("the planner does not answer")
    await opened.ask("hi")
    await expect(opened.page.get_by_role("alert")).to_contain_text("Unavailable (503)")


async def test_giving_up_is_no_answer(opened):
    await opened.ask("nothing")
    await expect(opened.find("#outcome .title")).to_have_text("The model gave up")
    await expect(opened.find(".card.answer")).to_have_count(0)


async def test_the_first_visit_explains_itself_and_names_the_demonstration_model(opened):
    await expect(opened.find("#idle")).to_be_visible()
    await expect(opened.find("#result")).to_be_hidden()
    await expect(opened.find("footer")).to_have_text(
        re.compile("small demonstration model.*LLM_BASE_URL.*LLM_MODEL", re.DOTALL)
    )
    assert opened.complaints == []


async def test_the_answer_is_announced_to_screen_readers(opened):
    await opened.ask("hi")
    await expect(opened.page.get_by_role("status")).to_have_text("Answer: hi")


@pytest.mark.parametrize("width", [360, 800, 1400])
async def test_nothing_is_wider_than_the_window(opened, width):
    await opened.page.set_viewport_size({"width": width, "height": 800})
    await opened.ask("attack")
    await expect(opened.find(".card.answer")).to_be_visible()
    assert await opened.page.evaluate("document.documentElement.scrollWidth") <= width
