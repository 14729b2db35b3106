"""The load balancer's certificate."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.deployment.file import Deployment


class Certificate(Construct):
    """The configured certificate, one requested for the domain, or a parameter of the deployment.

    It belongs to the first stack, so that nothing is created without a certificate. It passes its ARN on in a
    Systems Manager parameter, since an export cannot change while it is in use.
    """

    def __init__(self, scope: Construct, construct_id: str, *, deployment: Deployment) -> None:
        super().__init__(scope, construct_id)
        settings = deployment.ingress
        if settings.certificate_arn:
            arn = settings.certificate_arn
        elif settings.domain and settings.hosted_zone_id:
            arn = self._issue(settings.domain, settings.hosted_zone_id)
        else:
            arn = self._ask()
        ssm.CfnParameter(
            self,
            "Arn",
            name=_parameter_name(deployment),
            type="String",
            value=arn,
            description="Certificate of the load balancer",
        )

    def _issue(self, domain: str, hosted_zone_id: str) -> str:
        validation = acm.CfnCertificate.DomainValidationOptionProperty(
            domain_name=domain, hosted_zone_id=hosted_zone_id
        )
        return acm.CfnCertificate(
            self,
            "Issued",
            domain_name=domain,
            validation_method="DNS",
            domain_validation_options=[validation],
        ).ref

    def _ask(self) -> str:
        parameter = cdk.CfnParameter(
            self,
            "CertificateArn",
            type="String",
            description="ARN of the ACM certificate of the HTTPS load balancer, in the region deployed to.",
            allowed_pattern=r"^arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/[\w-]+$",
            constraint_description="must be the ARN of a certificate in ACM; set "
            "ingress.certificate_arn, or ingress.domain and ingress.hosted_zone_id, or ingress.cloudfront",
        )
        parameter.override_logical_id("CertificateArn")
        return parameter.value_as_string


def certificate_arn(scope: Construct, deployment: Deployment) -> str | None:
    """Returns the ARN that `Certificate` passed on, for use in another stack; None with CloudFront."""
    if deployment.ingress.cloudfront:
        return None
    return ssm.StringParameter.value_for_string_parameter(scope, _parameter_name(deployment))


def _parameter_name(deployment: Deployment) -> str:
    return f"/{deployment.name}/certificate-arn"
