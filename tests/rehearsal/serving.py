"""Steps in which the deployed services run, are asked, are replaced, and have faults seeded in them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import httpx

from ops.account import Account
from ops.engine_key import EngineKey
from tests.support.containers import images
from tests.support.containers.container import until

from .expectations import same
from .project import Project
from .seeded_faults import FAULTS, find
from .services import DeployedServices, DeploymentFailed
from .steps import found, saw, step
from .traffic import Traffic

_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
_PATHS = {
    "/metrics": 404,
    "//metrics": 404,
    "/v1//metrics": 404,
    "/ready": 404,
    "/health": 200,
    "/models": 200,
    "/": 200,
    "/page/page.js": 200,
    "/docs": 200,
}
"""What is public, and the status of the rest."""


class Serving:
    """What is done with running services."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._key = ""

    def check(self, services: DeployedServices) -> None:
        """Asks the deployed services what users ask, and looks for seeded faults."""
        with step("The deployed task definitions as containers behind a load balancer"):
            for substitution in dict.fromkeys(services.substitutions):
                print(f"  instead  {substitution}")
            same(services.layer_types(), {_ZSTD}, "layers of the images")
            saw("Docker pulled both images by digest; all of their layers are zstd")
            services.engine_port_is_the_orchestrators()
            same(services.balancer.healthy(), services.desired_count(), "healthy targets")
            images.runs_as_its_image_says(services.engine)
            for _, running in services.orchestrators:
                images.runs_as_its_image_says(running)
                images.reaches_its_engine(services.address_of(running))
            self._smoke(services)
            self._only_public_paths(services)
            self._keys(services)
        with step("Faults in what is deployed: each has to be found"):
            for fault in FAULTS:
                begun = time.monotonic()
                report = find(fault, services)
                found(fault.name, command="make rehearse", report=report, seconds=time.monotonic() - begun)

    def _smoke(self, services: DeployedServices) -> None:
        arguments = ("smoke", "--json", "--url", services.url, "--key", services.key)
        results = json.loads(self._project.ops(*arguments, environment=services.trusted))["results"]
        for result in results:
            same(result["status"], "ok", f"{result['subject']}: {result['found']}")
        saw(f"make smoke at {services.url}: {', '.join(result['subject'] for result in results)}")

    def _only_public_paths(self, services: DeployedServices) -> None:
        with httpx.Client(verify=services.balancer.tls, base_url=services.balancer.url) as client:
            statuses = {path: client.get(f"{services.balancer.url}{path}").status_code for path in _PATHS}
        same(statuses, _PATHS, "what the load balancer forwards")
        saw("/metrics and /ready are not public")

    def _keys(self, services: DeployedServices) -> None:
        """Checks that a key created by `ops keys` works on the running orchestrators until it is revoked."""
        key = self._project.ops("keys", "create", "rehearsal").strip()
        self._key = self._project.ops("keys", "create", "traffic").strip()
        until(
            lambda: _statuses(services, key) == _statuses(services, self._key) == {200},
            "the new key is accepted",
        )
        saw("keys create: a request with the new key is answered")
        newer = self._project.ops("keys", "rotate", "rehearsal").strip()
        until(lambda: _statuses(services, newer) == _statuses(services, key) == {200}, "both values work")
        self._project.ops("keys", "rotate", "rehearsal", "--finish")
        until(lambda: _statuses(services, key) == {401}, "the older value is rejected")
        same(_statuses(services, newer), {200}, "status with the newer value")
        saw("keys rotate: both values work until --finish, then only the newer one")
        self._project.ops("keys", "revoke", "rehearsal")
        until(lambda: _statuses(services, newer) == {401}, "the revoked key is rejected")
        saw("keys revoke: the same request gets 401")

    def rotate_engine_key(self, services: DeployedServices, account: Account) -> None:
        """Rotates the key between the tiers as `ops keys rotate-engine` does, with running containers."""
        old = services.engine_key

        class Rotation(EngineKey):
            """ECS of the emulator starts no task, so each rollout is also done with the containers."""

            def _roll_out(self, cluster: str, service: str) -> None:
                super()._roll_out(cluster, service)
                if service == account.outputs()["EngineService"]:
                    services.replace_engine()
                else:
                    services.roll_out()

        with step("make keys ARGS=rotate-engine, while users ask"):
            answers = self._while_asked(services, lambda: Rotation(account).rotate(saw))
            new = services.engine_key
            assert old != new, "the key is the same"
            same(
                [services.engine_accepts(key) for key in (old, new)],
                [False, True],
                "accepted keys, old and new",
            )
            saw(f"the engine accepts only the new key; {answers} answers meanwhile, none of them failed")

    def roll_out(self, services: DeployedServices, *, fails: str = "") -> None:
        """Replaces the orchestrators while users ask; with `fails`, that has to be why it stops."""
        before = {running.id for _, running in services.orchestrators}

        def replace() -> None:
            try:
                services.roll_out()
                same("", fails, "why the rollout stopped")
            except DeploymentFailed as error:
                if not fails or fails not in str(error):
                    raise

        answers = self._while_asked(services, replace)
        after = {running.id for _, running in services.orchestrators}
        same(len(after), len(before), "tasks")
        same(bool(before & after), bool(fails), "whether old tasks are left")
        saw(f"{answers} answers meanwhile, none of them failed")

    def _while_asked(self, services: DeployedServices, action: Callable[[], None]) -> int:
        """Does it while users ask; returns the number of answers, of which none may fail."""
        with Traffic(services.url, self._key, services.balancer.tls) as traffic:
            until(lambda: traffic.answers > 0, "traffic is answered")
            action()
            answered = traffic.answers
            until(lambda: traffic.answers > answered, "traffic is answered afterwards")
        same(traffic.failures[:3], [], "failed requests")
        return traffic.answers

    def revoke_bootstrap(self, services: DeployedServices) -> None:
        """Checks that the generated key can be taken away."""
        self._project.ops("keys", "revoke", "bootstrap")
        until(lambda: _statuses(services, services.key) == {401}, "the revoked bootstrap key is rejected")
        saw("keys revoke bootstrap: a request with the generated key gets 401")


def _statuses(services: DeployedServices, key: str) -> set[int]:
    """What the orchestrators answer to a small chat with the key."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    headers = {"authorization": f"Bearer {key}"}
    urls = [f"{services.address_of(running)}/v1/chat/completions" for _, running in services.orchestrators]
    return {httpx.post(url, json=body, headers=headers, timeout=60).status_code for url in urls}
