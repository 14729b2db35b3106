"""All seeded faults: each names the rule that finds it."""

from __future__ import annotations

from tests.infra.mutations import Mutation

from . import access, capacity, ingress, services

FAULTS: tuple[Mutation, ...] = (*capacity.FAULTS, *services.FAULTS, *ingress.FAULTS, *access.FAULTS)
