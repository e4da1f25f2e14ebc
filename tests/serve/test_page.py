"""A shopper's walk through the page, in a real browser."""

import contextlib
import shutil
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from onesearch.serve.http.app import create_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: the page is not looked at")

QUESTION = "What are you looking for?"
EVIL = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def address(make_service, judged_run) -> Iterator[str]:
    """A served page."""
    from onesearch.serve.settings import Limits

    service = make_service(judged_run, limits=Limits(rate=0))
    server = uvicorn.Server(uvicorn.Config(create_app(service), "127.0.0.1", 0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, address):
    """A fresh page in English; whatever goes wrong in it fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: wrong.append(request.url) if not request.url.startswith(address) else None)
    opened.set_default_timeout(10_000)
    yield opened
    context.close()
    assert wrong == []


def titles(page, side: str = "left") -> list[str]:
    return page.locator(f".{side} .card h3").all_inner_texts()


def search(page, query: str) -> None:
    page.get_by_role("searchbox").fill(query)
    page.keyboard.press("Enter")
    page.locator("#status").get_by_text("item").wait_for()


def two_who_differ(client, query: str) -> list[str]:
    """Shoppers whose answers to a query stand in another order."""
    found: dict[tuple[str, ...], str] = {}
    for user in client.get("/users").json()["users"]:
        hits = client.post("/search", json={"query": query, "user_id": user["user_id"]}).json()["hits"]
        found.setdefault(tuple(hit["item_id"] for hit in hits), user["user_id"])
        if len(found) == 2:
            return list(found.values())
    raise AssertionError(f"nobody's answer to '{query}' differs: the test needs another query")


def test_a_shoppers_walk(page, address, client):
    """Search, be somebody, be somebody else, open the tree down to the item, click, compare."""
    one, other = two_who_differ(client, "red boots")
    page.goto(address)
    page.get_by_text("Type a query").wait_for()
    search(page, "red boots")
    assert len(titles(page)) == 10
    assert page.locator("mark").all_inner_texts()
    assert page.get_by_role("button", name="Click on").count() == 0  # nobody asks

    page.get_by_label("Shopper").select_option(one)
    page.locator(".behaviour").get_by_text("Asked").wait_for()
    page.locator("#status").get_by_text("ms").wait_for()
    as_one, before = titles(page), page.locator(".cards").inner_text()
    page.get_by_label("Shopper").select_option(other)
    page.wait_for_function("before => document.querySelector('.cards').innerText !== before", arg=before)
    page.locator("#status").get_by_text("ms").wait_for()
    assert titles(page) != as_one
    assert f"user={other}" in page.url

    card = page.locator(".card").first
    card.get_by_role("button", name="Why this item").click()
    for _ in card.locator(".sid .token").all():
        card.locator('.way > button[aria-expanded="false"]').click()
        page.wait_for_timeout(100)
    card.locator(".leaf", has_text=titles(page)[0]).wait_for()
    assert card.locator(".way").count() == 5

    page.get_by_role("button", name="Compare two").click()
    page.locator(".right .card").first.wait_for()
    page.locator("#right-user").select_option(one)
    page.wait_for_function(
        "want => [...document.querySelectorAll('.right .card h3')].map((title) => title.innerText).join() === want",
        arg=",".join(as_one),
    )
    assert titles(page, "left") != as_one
    assert page.locator(".right .moved").count() == 10
    page.locator("#right-stage").select_option("sft_align")
    page.get_by_text("This stage answers everyone alike.").wait_for()


def test_a_click_is_known_to_the_next_search(page, address):
    """You begin with nothing; what you click stands beside you, and the next answer scores it in."""
    page.goto(f"{address}/?q=lamp")
    page.locator(".card").first.wait_for()
    page.get_by_label("Shopper").select_option("You, from scratch")
    page.get_by_text("Nothing yet.").wait_for()
    before = page.locator(".score small").all_inner_texts()
    page.get_by_role("button", name="Click on").nth(3).click()
    page.locator(".behaviour").get_by_text(titles(page)[3]).wait_for()
    cards = page.locator(".cards").inner_text()
    page.get_by_role("button", name="Search again").click()
    page.wait_for_function("before => document.querySelector('.cards').innerText !== before", arg=cards)
    assert page.locator(".score small").all_inner_texts() != before


def test_a_shopper_filters(page, address, client):
    """A category, a price and what is sold out: the list of the service, all of it in the link, and a way back."""
    page.goto(f"{address}/?q=boots")
    page.locator(".card").first.wait_for()
    assert page.locator("#filter-seller").count() == 0  # the shop names none
    page.get_by_label("Category").select_option("Shoes")
    page.get_by_text("out of 11 that pass the filters").wait_for()
    page.get_by_label("Highest price").fill("15")
    page.keyboard.press("Enter")
    page.get_by_text("5 items in").wait_for()
    page.get_by_label("In stock only").uncheck()
    page.get_by_text("out of 6 that pass the filters").wait_for()
    wanted = {"category": ["Shoes"], "price_max": 15, "in_stock": False}
    hits = client.post("/search", json={"query": "boots", "filter": wanted}).json()["hits"]
    assert titles(page) == [hit["title"] for hit in hits]
    page.get_by_text("sold out").wait_for()
    assert {"category=Shoes", "price_max=15", "in_stock=false"} <= set(page.url.split("?")[1].split("&"))

    page.reload()
    page.get_by_text("out of 6 that pass the filters").wait_for()
    assert page.get_by_label("Category").input_value() == "Shoes"
    assert page.get_by_label("Highest price").input_value() == "15"
    assert not page.get_by_label("In stock only").is_checked()
    page.get_by_label("Lowest price").fill("15.5")
    page.keyboard.press("Enter")
    page.get_by_text("no price lies between").wait_for()
    page.get_by_label("Highest price").fill("15.9")
    page.keyboard.press("Enter")
    page.get_by_text("No item passes these filters").wait_for()
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_text("10 items in").wait_for()
    assert page.url == f"{address}/?q=boots"
    assert page.get_by_label("In stock only").is_checked()


def test_several_names_stay_several(page, address):
    """A link asks for two categories; another one and back again is the same two, and is answered."""
    page.goto(f"{address}/?q=boots&category=Shoes+%3E+Boots&category=Home+%3E+Rug")
    page.get_by_text("out of 11 that pass the filters").wait_for()
    categories = page.get_by_label("Category")
    assert categories.locator("option:checked").inner_text() == "Shoes > Boots, Home > Rug"
    categories.select_option(label="Kitchen")
    page.get_by_text("out of 12 that pass the filters").wait_for()
    assert page.url.endswith("?q=boots&category=Kitchen")
    categories.select_option(label="Shoes > Boots, Home > Rug")
    page.get_by_text("out of 11 that pass the filters").wait_for()
    assert page.url.endswith("?q=boots&category=Shoes+%3E+Boots&category=Home+%3E+Rug")
    categories.select_option(label="All")
    page.locator("#status").get_by_text("10 items in").wait_for()
    assert page.url == f"{address}/?q=boots"


def test_a_list_stands_beside_the_same_re_sorted(page, address, client):
    """The same shopper twice, the right list re-sorted: parts on each card, bars that fall, the choice in the link."""
    asked = {"query": "red boots", "user_id": "u3"}
    plain, judged = (client.post("/search", json=asked | {"rerank": rerank}).json() for rerank in (False, True))
    page.goto(f"{address}/?q=red+boots&user=u3&user2=u3&compare=1")
    page.locator(".right .moved").nth(9).wait_for()
    assert titles(page, "left") == titles(page, "right") == [hit["title"] for hit in plain["hits"]]
    assert page.locator(".parts").count() == 0
    page.locator("#right-sort").select_option("Re-sorted by the reward model")
    page.locator(".right .parts").nth(9).wait_for()
    assert titles(page, "right") == [hit["title"] for hit in judged["hits"]]
    assert titles(page, "left") == [hit["title"] for hit in plain["hits"]]
    assert page.locator(".right .moved.up").count()
    parts = page.locator(".right .parts").first.locator("li").all_inner_texts()
    assert [part.split()[0] for part in parts] == ["CTR", "CVR", "CTCVR", "relevance", "log"]
    assert page.locator(".right .score small").first.inner_text() == f"score {judged['hits'][0]['score']:.3f}"
    assert page.locator(".left .score small").first.inner_text().startswith("log p −")
    page.locator(".right").get_by_text("Score = CTR + 0.3 × CVR").wait_for()
    page.locator(".left").get_by_text("Score = log p").wait_for()
    for side in ("left", "right"):
        bars = page.locator(f".{side} .bar span").evaluate_all("bars => bars.map((bar) => parseFloat(bar.style.width))")
        assert bars[0] == 100
        assert bars == sorted(bars, reverse=True)
        assert 1 <= bars[-1] < 100
    assert "sort2=reward" in page.url
    page.reload()
    page.locator(".right .parts").nth(9).wait_for()
    assert page.locator("#right-sort").input_value() == "reward"
    assert page.locator("#left-sort").input_value() == "generated"


def test_what_is_typed_is_text(page, address):
    """HTML in a query and in an address is shown, not run."""
    page.goto(f"{address}/?user={EVIL}&q={EVIL}")
    page.locator(".card").first.wait_for()
    assert page.get_by_role("searchbox").input_value() == EVIL
    assert page.title() == "OneSearch"
    assert page.locator("img").count() == 0
    page.get_by_label("Shopper").select_option("You, from scratch")
    search(page, EVIL)
    page.get_by_role("button", name="Click on").first.click()
    page.locator(".queries button").wait_for()
    assert "onerror" in page.locator(".queries button").inner_text()
    assert page.title() == "OneSearch"


def test_the_keyboard_reaches_everything(page, address):
    """`/` goes to the box; from there Tab reaches the button, the filters, Compare, and the first card's tree."""
    page.goto(f"{address}/?q=rug")
    page.locator(".card").first.wait_for()
    page.keyboard.press("/")
    met = []
    for _ in range(40):
        met.append(
            page.evaluate(
                "((e) => (e.labels?.[0]?.innerText || e.ariaLabel || e.innerText || e.id).trim().split('\\n')[0])"
                "(document.activeElement)"
            )
        )
        if met[-1].startswith("Why"):
            break
        page.keyboard.press("Tab")
    prices = ["Lowest price", "Highest price"]
    assert met[:9] == [QUESTION, "Search", "Filters", "Category", "Brand", *prices, "In stock only", "Compare two"]
    assert met[-1] == "Why this item"
    page.keyboard.press("Enter")
    page.get_by_role("list", name="Tree of semantic IDs").wait_for()
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select, button')].filter(e => e.checkVisibility() "
        "&& !(e.labels?.length || e.innerText.trim() || e.ariaLabel)).length"
    )
    assert unnamed == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_lights_and_languages(browser, address, scheme):
    """390 px wide: nothing sticks out, even beside one another; text stands out from its paper by 4.5 or more."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme, locale="zh-CN")
    with contextlib.closing(context):
        page = context.new_page()
        page.goto(f"{address}/?q=red+boots&user=u1&compare=1&user2=u2&sort2=reward&price_min=11")
        page.locator(".right .card").first.wait_for()
        page.get_by_text("筛选 · 1").click()
        page.get_by_text("仅显示有货").wait_for()
        assert page.get_by_role("button", name="搜索", exact=True).count() == 1
        assert page.locator("html").get_attribute("lang") == "zh-CN"
        page.locator(".right").get_by_text("点击率").first.wait_for()
        page.get_by_role("button", name="为何是这件商品").first.click()
        page.locator(".tree .node").nth(1).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate(CONTRAST) == []
        page.get_by_role("button", name="English").click()
        page.get_by_role("button", name="Search", exact=True).wait_for()


CONTRAST = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map((part) => {
      const c = part / 255;
      return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = (element) => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") return color;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = [];
  for (const element of document.querySelectorAll("h1, h3, p, small, label, button, code, mark, summary, li, span")) {
    const speaks = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!speaks || !element.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(paper(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${element.tagName}.${element.className} ${element.innerText}: ${ratio.toFixed(2)}`);
  }
  return faint;
}"""


def test_a_key_is_asked_for(browser, make_service):
    """A service with a key: the page asks for it, says when it is wrong, and goes on when it is right.

    It has no reward model: the page offers no choice that there is not.
    """
    app = create_app(make_service(), "the-key-of-this-test")
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", 0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    context = browser.new_context(locale="en-GB")
    with contextlib.closing(context):
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/?q=rug")
        box = page.get_by_label("This service asks for an API key")
        box.fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("A valid API key is needed").wait_for()
        box.fill("the-key-of-this-test")
        page.keyboard.press("Enter")
        page.locator(".card").first.wait_for()
        assert not box.is_visible()
        assert page.locator(".who").get_by_role("combobox").count() == 2
    server.should_exit = True
    thread.join(10)
