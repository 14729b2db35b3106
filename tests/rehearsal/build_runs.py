"""Runs of CodeBuild for the emulator, in whose environment this is imported.

The command in BUILD_COMMAND runs the build specification; what it pushed to the registry at REGISTRY is then
in ECR too, under the same digest. Without a command a run is played, and pushes an image that is a name only.
A build that mirrors a model is always played, for want of a Hub: it only writes the manifest.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from typing import Any

import botocore.session
import ministack.services.ecr as ecr

_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)
_SECONDS = 1200


def outcome(buildspec: str, variables: dict[str, str]) -> tuple[str, list[str]]:
    """Runs a build; the status that it ends with, and the lines of its log."""
    command = os.environ["BUILD_COMMAND"]
    if "TARGET" in variables:
        _write_manifest(variables)
        return "SUCCEEDED", ["played"]
    repository, tag = variables["REPOSITORY_URI"].partition("/")[2], variables["IMAGE_TAG"]
    if not command:
        _put(repository, tag, json.dumps({"schemaVersion": 2, "config": {"digest": tag}}))
        return "SUCCEEDED", ["played"]
    ended = subprocess.run(
        json.loads(command),
        input=json.dumps({"buildspec": buildspec, "variables": variables}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    log = ended.stdout.splitlines()
    if ended.returncode:
        return "FAILED", log
    _copy_to_ecr(repository, tag)
    return "SUCCEEDED", log


def _write_manifest(variables: dict[str, str]) -> None:
    """Writes what the program of the build writes last, through the emulator's own S3."""
    bucket, _, prefix = variables["TARGET"].removeprefix("s3://").partition("/")
    manifest = {"model": variables["MODEL"], "revision": variables["REVISION"], "files": []}
    client: Any = botocore.session.get_session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.put_object(Bucket=bucket, Key=f"{prefix}/tandem-manifest.json", Body=json.dumps(manifest).encode())


def _copy_to_ecr(repository: str, tag: str) -> None:
    """Puts a pushed image into ECR; a build that pushed none succeeds all the same, as in AWS."""
    url = f"http://{os.environ['REGISTRY']}/v2/{repository}/manifests/{tag}"
    asked = urllib.request.Request(url, headers={"Accept": _MANIFESTS})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            _put(repository, tag, answer.read().decode())
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise


def _put(repository: str, tag: str, manifest: str) -> None:
    pushed = {"repositoryName": repository, "imageTag": tag, "imageManifest": manifest}
    status, _, body = ecr._put_image(pushed)
    if status >= 400:
        raise ValueError(str(body))
