from __future__ import annotations

import json

from orchestrator.tools.calculator import calculate_math
from orchestrator.tools.toolbox import Toolbox


async def test_result_and_complaint_are_objects() -> None:
    toolbox = Toolbox([calculate_math])
    assert toolbox.is_quick("calculate_math")
    answer = await toolbox.call("calculate_math", '{"expression": "123 * 456"}', request_id="r1")
    assert json.loads(answer.content) == {"result": 56088}
    refused = await toolbox.call("calculate_math", '{"expression": "1 / 0"}', request_id="r1")
    assert refused.outcome == "error"
    assert json.loads(refused.content) == {"error": "a division by zero has no result"}
    await toolbox.aclose()
