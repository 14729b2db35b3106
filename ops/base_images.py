"""Pins the base images of this project by digest, as their registries report it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from .account import Failed

ROOT = Path(__file__).parents[1]

_DOCKER_HUB = "registry-1.docker.io"
# An index comes first: its digest covers the images of all architectures.
_ACCEPTED = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PLAIN_HTTP = ("localhost", "127.0.0.1")  # as Docker does
_SECONDS = 30


@dataclass(frozen=True)
class Pin:
    """Where an image is named.

    Attributes:
        file: the file, relative to the project.
        pattern: finds the name with its tag as the group `image`, and its digest, if any, as `digest`.
    """

    file: str
    pattern: str


_REST = r"(?P<digest>(?:@sha256:[0-9a-f]{64})?)"
PINS = (
    Pin("services/orchestrator/Dockerfile", rf"(?m)^ARG PYTHON_IMAGE=(?P<image>[\w./:-]+){_REST}$"),
    Pin("services/vllm/Dockerfile", rf"(?m)^FROM (?P<image>vllm/[\w./:-]+){_REST}$"),
    *(
        Pin("docker-compose.yml", rf"(?m)^    image: (?P<image>{name}:[\w.-]+){_REST}$")
        for name in ("ghcr.io/open-webui/open-webui", "otel/opentelemetry-collector", "jaegertracing/jaeger")
    ),
    Pin("services/vllm/compose.yaml", rf"(?m)^    image: (?P<image>[\w./:-]+){_REST}$"),
    Pin("infra/images/recipes.py", rf'"PYTHON_IMAGE": "(?P<image>[\w./:-]+){_REST}"'),
)


def pin(root: Path = ROOT) -> list[str]:
    """Writes the digests into the files, and returns one line per image.

    Raises:
        Failed: a registry cannot be reached or does not know an image. No file is changed then.
    """
    digests: dict[str, str] = {}
    changed: dict[Path, str] = {}
    lines = []
    for one in PINS:
        path = root / one.file
        text = changed.get(path) or path.read_text(encoding="utf-8")
        found = re.search(one.pattern, text)
        if found is None:
            raise Failed(f"{one.file} names no base image where one is expected: {one.pattern}")
        image = found["image"]
        digest = digests[image] = digests.get(image) or digest_of(image)
        changed[path] = text[: found.start("digest")] + f"@{digest}" + text[found.end("digest") :]
        same = found["digest"] == f"@{digest}"
        lines.append(f"{one.file}: {image}@{digest}{' (no change)' if same else ''}")
    for path, text in changed.items():
        path.write_text(text, encoding="utf-8")
    return lines


def digest_of(image: str) -> str:
    """Returns the digest that a registry reports for an image, such as `python:3.11-slim`.

    Raises:
        Failed: the registry cannot be reached, or has no such image.
    """
    registry, repository, tag = _parts(image)
    scheme = "http" if registry.partition(":")[0] in _PLAIN_HTTP else "https"
    url = f"{scheme}://{registry}/v2/{repository}/manifests/{tag}"
    try:
        with httpx.Client(timeout=_SECONDS, follow_redirects=True) as client:
            answer = client.head(url, headers={"Accept": _ACCEPTED})
            if answer.status_code == 401:
                token = _token(client, answer.headers.get("www-authenticate", ""))
                answer = client.head(url, headers={"Accept": _ACCEPTED, "Authorization": f"Bearer {token}"})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Failed(f"{registry} cannot be asked for {image}: {error or type(error).__name__}") from None
    digest = answer.headers.get("docker-content-digest", "")
    if answer.status_code != 200 or not _DIGEST.fullmatch(digest):
        raise Failed(f"{registry} reports no digest for {image}: status {answer.status_code}")
    return str(digest)


def _parts(image: str) -> tuple[str, str, str]:
    """Returns registry, repository and tag, with Docker's defaults."""
    name, _, tag = image.rpartition(":") if ":" in image.rpartition("/")[2] else (image, "", "latest")
    first, _, rest = name.partition("/")
    if rest and ("." in first or ":" in first or first == "localhost"):
        return first, rest, tag
    return _DOCKER_HUB, name if rest else f"library/{name}", tag


def _token(client: httpx.Client, challenge: str) -> str:
    """Returns the anonymous token that a registry's challenge asks for."""
    fields: Mapping[str, str] = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if not challenge.lower().startswith("bearer") or "realm" not in fields:
        raise Failed(f"the registry asks for a login that is not anonymous: {challenge[:200]!r}")
    wanted = {name: fields[name] for name in ("service", "scope") if name in fields}
    answer = client.get(fields["realm"], params=wanted)
    token = answer.json() if answer.status_code == 200 else {}
    return str(token.get("token") or token.get("access_token") or "")
