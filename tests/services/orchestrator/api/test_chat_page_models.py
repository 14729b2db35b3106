"""The chat page's model picker, and what depends on the chosen model."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import FilePayload, Route, expect

from tests.support.live import Live, live
from tests.support.page import ask, opened
from tests.support.scripted_engine import ScriptedEngine, stream, text


async def test_state_of_the_model_is_shown_while_it_sleeps_and_wakes(engine: ScriptedEngine) -> None:
    engine.play(stream(*text("awake")))
    await engine.stop()
    async with live(engine.url, ENGINE_STARTUP_SECONDS="60") as server, opened(server.url) as page:
        await expect(page.locator("#model-state")).to_contain_text("asleep, wakes up in about")
        await ask(page, "Hi")
        await expect(page.locator(".waiting")).to_contain_text("The answer comes once it is up.")
        await engine.start(engine.port)
        await expect(page.locator(".answer .text")).to_have_text("awake")


@pytest.mark.parametrize(
    ("tandem", "shown"),
    [
        ({"state": "ready"}, "up"),
        ({"state": "sleeping", "expected_seconds": 240}, "asleep, wakes up in about 4 minutes"),
        ({"state": "starting", "expected_seconds": 240, "remaining_seconds": 60}, "starting, about 60 s"),
        ({"state": "starting", "expected_seconds": 240, "step": "weights"}, "starting, about 4 minutes"),
        ({"state": "starting", "step": "weights"}, "starting"),
        ({"state": "down"}, "down"),
    ],
)
async def test_picker_shows_the_state_of_each_model(server: Live, tandem: dict[str, Any], shown: str) -> None:
    async def list_models(route: Route) -> None:
        models = [{"id": "first", "tandem": {"state": "ready"}}, {"id": "second", "tandem": tandem}]
        await route.fulfill(json={"object": "list", "data": models})

    async with opened(server.url) as page:
        await page.route("**/v1/models", list_models)
        await page.reload()
        await expect(page.locator("#model-state")).to_have_text("up")
        options = ["first", "second" if shown == "up" else f"second — {shown}"]
        await expect(page.locator("#model option")).to_have_text(options)
        await page.get_by_label("Model").select_option("second")
        await expect(page.locator("#model-state")).to_have_text(shown)


PIXEL = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\nIDATx\x9cc\x00\x01\x00\x00\x05\x00\x01\r\n-\xb4\x00\x00\x00\x00IEND\xaeB`\x82"
)


async def test_image_is_attached_and_sent(engine: ScriptedEngine) -> None:
    engine.play(stream(*text("a pixel")))
    async with live(engine.url, MODEL_TAKES_IMAGES="true") as server, opened(server.url) as page:
        async with page.expect_file_chooser() as chooser:
            await page.get_by_role("button", name="Image").click()
        pixel = FilePayload(name="pixel.png", mimeType="image/png", buffer=PIXEL)
        await (await chooser.value).set_files(pixel)
        await expect(page.locator("#images img")).to_be_visible()
        await ask(page, "What is this?")
        await expect(page.locator(".answer .text")).to_have_text("a pixel")
        (message,) = engine.requests[0].json["messages"]
        assert message["content"][0] == {"type": "text", "text": "What is this?"}
        assert message["content"][1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
        await page.locator("#image").set_input_files(
            FilePayload(name="large.png", mimeType="image/png", buffer=bytes(4_000_001))
        )
        await expect(page.locator("#notice")).to_have_text(
            "large.png has 4.0 MB; an image may have up to 4 MB."
        )


async def test_images_can_be_attached_only_for_a_model_that_takes_them(
    engine: ScriptedEngine, server: Live
) -> None:
    async with opened(server.url) as page:
        await expect(page.locator("#model-state")).to_have_text("up")
        await expect(page.get_by_role("button", name="Send")).to_be_visible()
        await expect(page.get_by_role("button", name="Image")).to_be_hidden()

    async def list_models(route: Route) -> None:
        """Two models, as a server with several of them lists them."""
        listed = [
            {"id": "sees", "tandem": {"state": "ready", "takes_images": True}},
            {"id": "reads", "tandem": {"state": "ready"}},
        ]
        await route.fulfill(json={"object": "list", "data": listed})

    async with opened(server.url) as page:
        await page.route("**/v1/models", list_models)
        await page.reload()
        await expect(page.get_by_role("button", name="Image")).to_be_visible()
        await page.locator("#image").set_input_files(
            FilePayload(name="pixel.png", mimeType="image/png", buffer=PIXEL)
        )
        await expect(page.locator("#images img")).to_be_visible()
        await page.get_by_label("Model").select_option("reads")
        await expect(page.get_by_role("button", name="Image")).to_be_hidden()
        await expect(page.locator("#images img")).to_have_count(0)
        await expect(page.locator("#notice")).to_have_text("reads takes no images.")
        await page.get_by_label("Model").select_option("sees")
        await expect(page.get_by_role("button", name="Image")).to_be_visible()
