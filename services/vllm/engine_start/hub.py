"""The files of a model on the Hugging Face Hub, with the hashes that the Hub states."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

HUB = "https://huggingface.co"
_TIMEOUT_SECONDS = 60
_CHUNK = 1 << 20
_ATTEMPTS = 6
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack")


class HubError(Exception):
    """The Hub does not give the model, or not what it says. The message says what to do."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a model. Large files have a SHA-256, the others only the hash that Git has of them."""

    path: str
    size: int
    sha256: str | None
    blob: str


class Hub:
    """The Hub's API.

    Args:
        token: The token of an account that may read the model; None for public models.
        address: Where the Hub is.
    """

    def __init__(self, token: str | None, address: str = HUB) -> None:
        self._token = token
        self._address = address.rstrip("/")

    def files(self, model: str, revision: str) -> tuple[str, list[HubFile]]:
        """Returns the commit of a revision, and the files that an engine needs.

        Raises:
            HubError: The model or revision does not exist, or may not be read.
        """
        path = f"/api/models/{model}/revision/{urllib.parse.quote(revision, safe='')}?blobs=true"
        with self._open(path, model) as answer:
            found: dict[str, Any] = json.load(answer)
        files = [
            HubFile(one["rfilename"], one["size"], (one.get("lfs") or {}).get("sha256"), one["blobId"])
            for one in found["siblings"]
        ]
        return found["sha"], needed(files)

    def pieces(self, model: str, commit: str, file: HubFile) -> Iterator[bytes]:
        """Yields the bytes of a file; a connection that breaks is resumed where it broke.

        Raises:
            HubError: The file cannot be read to its end, or its hash is wrong.
        """
        path = f"/{model}/resolve/{commit}/{urllib.parse.quote(file.path)}"
        check, done, failures = _Check(file), 0, 0
        while done < file.size:
            try:
                with self._open(path, model, {"Range": f"bytes={done}-"} if done else {}) as answer:
                    while done < file.size and (piece := answer.read(_CHUNK)):
                        check.update(piece)
                        done += len(piece)
                        yield piece
                if done < file.size:
                    raise ConnectionError(f"it ended after {done} of {file.size} bytes")
            except (OSError, HTTPException) as error:
                failures += 1
                if failures == _ATTEMPTS:
                    raise HubError(f"{model}: {file.path}: {error}; run the build again") from None
        check.finish(model)

    def _open(self, path: str, model: str, headers: dict[str, str] | None = None) -> Any:
        request = urllib.request.Request(self._address + path, headers=headers or {})  # noqa: S310
        if self._token:
            # Not sent to the servers that the Hub redirects to.
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise HubError(
                    f"{model}: the Hub denies access ({error.code}). Accept the model's terms on its page, "
                    "and set model.hf_token_secret_arn to a secret with the token of that account"
                ) from None
            if error.code == 404:
                raise HubError(
                    f"{model}: the Hub has no such model, revision or file: {path}. Check model.id and "
                    "model.revision"
                ) from None
            raise


class _Check:
    """Compares a file with the hash that the Hub states."""

    def __init__(self, file: HubFile) -> None:
        self._file = file
        if file.sha256:
            self._digest = hashlib.sha256()
        else:
            self._digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)

    def update(self, piece: bytes) -> None:
        self._digest.update(piece)

    def finish(self, model: str) -> None:
        found, stated = self._digest.hexdigest(), self._file.sha256 or self._file.blob
        if found != stated:
            raise HubError(
                f"{model}: {self._file.path} has the hash {found}, and the Hub states {stated}; run the "
                "build again"
            )


def needed(files: Sequence[HubFile]) -> list[HubFile]:
    """Returns the files that an engine needs: one format of the weights, and everything small.

    Some repositories have the weights twice, e.g. as `consolidated.safetensors`; a streamer would load both.
    """
    tops = [file for file in files if "/" not in file.path]
    weights = [file for file in tops if file.path.endswith(".safetensors")]
    shards = [file for file in weights if file.path.startswith("model")]
    kept = shards or weights or [file for file in tops if file.path.endswith(_WEIGHTS)]
    return [file for file in files if not file.path.startswith(".") and _is_kept(file, kept)]


def _is_kept(file: HubFile, weights: Sequence[HubFile]) -> bool:
    return file in weights or not file.path.endswith(_WEIGHTS)
