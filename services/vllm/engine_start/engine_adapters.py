"""vLLM's routes that load and unload adapters, on the address of this container."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

LOADING_SECONDS = 120.0
"""vLLM loads an adapter between two steps of the model, so it may have to wait for one."""

# A proxy in the environment is for downloads, never for this container's own address.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_REASON_CHARACTERS = 500


class Rejected(Exception):
    """vLLM does not accept an adapter. The message is vLLM's."""


class EngineAdapters:
    """The adapters of a running engine.

    Args:
        url: Where the engine answers, without a path.
        key: The engine's key, if it has one.
    """

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def load(self, name: str, path: Path) -> None:
        """Loads an adapter whose name is not in use.

        Raises:
            Rejected: vLLM does not accept it.
            OSError: The engine does not answer.
        """
        self._post("load_lora_adapter", {"lora_name": name, "lora_path": str(path)})

    def unload(self, name: str) -> None:
        """Unloads an adapter, if it is loaded. Requests that use it go on.

        Raises:
            OSError: The engine does not answer, or rejects it.
        """
        try:
            self._post("unload_lora_adapter", {"lora_name": name}, accepted=(404,))
        except Rejected as error:
            raise OSError(str(error)) from None

    def _post(self, route: str, body: dict[str, str], accepted: tuple[int, ...] = ()) -> None:
        request = urllib.request.Request(  # noqa: S310 - the scheme is ours
            f"{self._url}/v1/{route}", json.dumps(body).encode(), self._headers, method="POST"
        )
        try:
            with _OPENER.open(request, timeout=LOADING_SECONDS):
                return
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in accepted:
                    raise Rejected(_reason(error)) from None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        text = error.read(65_536).decode(errors="replace")
        found = json.loads(text)
        text = str(found["error"]["message"])
    except (OSError, ValueError, KeyError, TypeError):
        text = f"status {error.code}"
    return " ".join(text.split())[:_REASON_CHARACTERS]
