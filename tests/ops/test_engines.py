"""The services of the engines, as the stack's outputs name them."""

from __future__ import annotations

from typing import Any, cast

from infra.deployment.catalog import load_catalog
from infra.deployment.file import Deployment
from infra.deployment.plan import Plan
from ops.account import Account
from ops.engines import engine_services
from tests.infra.deployment.checks.broken_deployments import SMALL, several


class Deployed:
    """What `engine_services` reads of an account."""

    def __init__(self, deployment: Deployment, *missing: str) -> None:
        self.plan = Plan(deployment, load_catalog())
        self._missing = missing

    def outputs(self) -> dict[str, str]:
        names = (
            "ClusterName",
            "EngineService",
            "ClusterNameSmall",
            "EngineServiceSmall",
            "OrchestratorService",
        )
        return {name: name.lower() for name in names if name not in self._missing}


def found(deployment: Deployment, *missing: str) -> list[tuple[str, str, str]]:
    account = cast(Account, cast(Any, Deployed(deployment, *missing)))
    return [(one.name, one.cluster, one.service) for one in engine_services(account)]


def test_one_model_has_the_names_of_the_tiers() -> None:
    assert found(Deployment()) == [("engine", "clustername", "engineservice")]


def test_every_model_has_a_service_in_its_own_cluster() -> None:
    assert found(several(main={}, small=SMALL)) == [
        ("engine of main", "clustername", "engineservice"),
        ("engine of small", "clusternamesmall", "engineservicesmall"),
    ]


def test_model_that_is_not_deployed_yet_is_left_out() -> None:
    assert found(several(main={}, small=SMALL), "EngineServiceSmall") == [
        ("engine of main", "clustername", "engineservice")
    ]
