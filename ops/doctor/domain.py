"""Checks the certificate and the domain's hosted zone."""

from __future__ import annotations

from datetime import UTC, datetime

from botocore.exceptions import ClientError

from ops.account import Account, code_of, translated
from ops.report import Result, Status

_ASK = "aws acm request-certificate --validation-method DNS --domain-name NAME"
_SOON_DAYS = 14


def check_certificate(account: Account) -> list[Result]:
    """Checks that the certificate is in this region, issued, for the domain, and not about to expire."""
    ingress = account.deployment.ingress
    if ingress.cloudfront:
        return [Result(Status.OK, "certificate", "CloudFront uses its own")]
    if ingress.domain and ingress.hosted_zone_id and not ingress.certificate_arn:
        return [Result(Status.OK, "certificate", f"the deployment requests one for {ingress.domain}")]
    arn = account.certificate
    if arn is None:
        found = "none is set, but the deployment needs one"
        fix = f'make deploy ARGS="--certificate ARN", or set ingress.certificate_arn; {_ASK}'
        return [Result(Status.ERROR, "certificate", found, fix)]
    region = arn.split(":")[3]
    if region != account.region:
        found = f"{arn} is in {region}, but a load balancer in {account.region} needs one from its own region"
        return [Result(Status.ERROR, "certificate", found, f"{_ASK} --region {account.region}")]
    try:
        with translated():
            certificate = account.client("acm").describe_certificate(CertificateArn=arn)["Certificate"]
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        return [Result(Status.ERROR, "certificate", f"{arn} does not exist", _ASK)]
    names = [certificate["DomainName"], *certificate.get("SubjectAlternativeNames", [])]
    return [_certificate(account, certificate["Status"], certificate.get("NotAfter"), names)]


def _certificate(account: Account, status: str, end: datetime | None, names: list[str]) -> Result:
    domain = account.deployment.ingress.domain
    if status != "ISSUED":
        fix = "add the CNAME records that aws acm describe-certificate shows to your DNS"
        return Result(Status.ERROR, "certificate", f"{names[0]}: {status}, not ISSUED", fix)
    if domain and not any(covers(name, domain) for name in names):
        found = f"issued for {', '.join(dict.fromkeys(names))}, not for {domain}"
        return Result(Status.ERROR, "certificate", found, f"{_ASK.replace('NAME', domain)}")
    left = (end - datetime.now(UTC)).days if end else None
    if left is not None and left < _SOON_DAYS:
        fix = "find out why ACM has not renewed it; its CNAME record must stay in place"
        return Result(Status.WARNING, "certificate", f"{names[0]}: expires in {left} days", fix)
    return Result(Status.OK, "certificate", f"{names[0]}: issued")


def covers(name: str, domain: str) -> bool:
    """Returns whether a certificate's name covers a domain; `*` stands for one label (RFC 6125, 6.4.3)."""
    if name.startswith("*."):
        label, _, rest = domain.partition(".")
        return bool(label) and rest.lower() == name[2:].lower()
    return name.lower() == domain.lower()


def check_zone(account: Account) -> list[Result]:
    """Checks that the hosted zone exists and contains the domain."""
    ingress = account.deployment.ingress
    if not ingress.hosted_zone_id or not ingress.domain:
        return [Result(Status.OK, "hosted zone", "not used")]
    try:
        with translated():
            zone = account.client("route53").get_hosted_zone(Id=ingress.hosted_zone_id)["HostedZone"]
    except ClientError as error:
        if code_of(error) not in ("NoSuchHostedZone", "InvalidInput"):
            raise
        fix = "list zones with aws route53 list-hosted-zones and set ingress.hosted_zone_id"
        return [Result(Status.ERROR, "hosted zone", f"{ingress.hosted_zone_id} does not exist", fix)]
    name = zone["Name"].rstrip(".")
    if ingress.domain != name and not ingress.domain.endswith(f".{name}"):
        found = f"{ingress.hosted_zone_id} is the zone {name}, which does not contain {ingress.domain}"
        return [Result(Status.ERROR, "hosted zone", found, "change ingress.domain or ingress.hosted_zone_id")]
    if zone.get("Config", {}).get("PrivateZone") and ingress.scheme == "public":
        found = f"{name} is a private zone: neither clients nor ACM can resolve {ingress.domain}"
        return [Result(Status.ERROR, "hosted zone", found, "set ingress.hosted_zone_id to the public zone")]
    return [Result(Status.OK, "hosted zone", f"{name} contains {ingress.domain}")]
