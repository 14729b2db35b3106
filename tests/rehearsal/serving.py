"""Steps in which the deployed services run, are asked, are replaced, and have faults seeded in them."""

from __future__ import annotations

import json

import httpx

from tests.support.containers import images
from tests.support.containers.container import until

from .expectations import same
from .project import Project
from .seeded_faults import FAULTS, find
from .services import DeployedServices, DeploymentFailed
from .steps import saw, step
from .traffic import Traffic

_PATHS = {
    "/metrics": 404,
    "//metrics": 404,
    "/v1//metrics": 404,
    "/ready": 404,
    "/health": 200,
    "/models": 200,
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
                saw(f"{fault.name}: {find(fault, services)}")

    def _smoke(self, services: DeployedServices) -> None:
        trusted = {"SSL_CERT_FILE": str(services.balancer.certificate_authority)}
        arguments = ("smoke", "--json", "--url", services.url, "--key", services.key)
        results = json.loads(self._project.ops(*arguments, environment=trusted))["results"]
        for result in results:
            same(result["status"], "ok", f"{result['subject']}: {result['found']}")
        saw(f"make smoke at {services.url}: {', '.join(result['subject'] for result in results)}")

    def _only_public_paths(self, services: DeployedServices) -> None:
        with httpx.Client(verify=services.balancer.tls, base_url=services.balancer.url) as client:
            statuses = {path: client.get(path).status_code for path in _PATHS}
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
        self._project.ops("keys", "revoke", "rehearsal")
        until(lambda: _statuses(services, key) == {401}, "the revoked key is rejected")
        saw("keys revoke: the same request gets 401")

    def roll_out(self, services: DeployedServices, *, fails: str = "") -> None:
        """Replaces the orchestrators while users ask; with `fails`, that has to be why it stops."""
        before = {running.id for _, running in services.orchestrators}
        with Traffic(services.url, self._key, services.balancer.tls) as traffic:
            until(lambda: traffic.answers > 0, "traffic is answered")
            try:
                services.roll_out()
                same("", fails, "why the rollout stopped")
            except DeploymentFailed as error:
                if not fails or fails not in str(error):
                    raise
            answered = traffic.answers
            until(lambda: traffic.answers > answered, "traffic is answered afterwards")
        same(traffic.failures[:3], [], "failed requests")
        after = {running.id for _, running in services.orchestrators}
        same(len(after), len(before), "tasks")
        same(bool(before & after), bool(fails), "whether old tasks are left")
        saw(f"{traffic.answers} answers meanwhile, none of them failed")

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
