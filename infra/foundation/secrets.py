"""Secrets: the clients' keys and the key between the tiers."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from infra.suppressions import accept


class Keys(Construct):
    """Three secrets.

    `bootstrap`: the first, generated API key. `api_keys`: JSON of named SHA-256 hashes, edited by `ops keys`
    and polled by the orchestrator. `engine`: the key that the engine requires of the orchestrator.
    """

    def __init__(self, scope: Construct, construct_id: str, *, retain: bool) -> None:
        super().__init__(scope, construct_id)
        self._policy = cdk.RemovalPolicy.RETAIN if retain else cdk.RemovalPolicy.DESTROY
        self.bootstrap = self._generated("Bootstrap", "Tandem: the first API key of clients")
        self.engine = self._generated("Engine", "Tandem: the key that the orchestrator shows to the engine")
        self.api_keys = secretsmanager.Secret(
            self,
            "ApiKeys",
            description="Tandem: named SHA-256 hashes of API keys; {} is none",
            secret_string_value=cdk.SecretValue.unsafe_plain_text("{}"),
            removal_policy=self._policy,
        )
        for secret in (self.bootstrap, self.engine, self.api_keys):
            accept(
                secret,
                "AwsSolutions-SMG4",
                reason="API keys are rotated with `ops keys`, when clients are ready for the next one.",
            )
            accept(secret, "CKV_AWS_149", reason="Secrets Manager encrypts with the account's default key.")

    def _generated(self, construct_id: str, description: str) -> secretsmanager.Secret:
        return secretsmanager.Secret(
            self,
            construct_id,
            description=description,
            generate_secret_string=secretsmanager.SecretStringGenerator(
                password_length=48, exclude_punctuation=True
            ),
            removal_policy=self._policy,
        )
