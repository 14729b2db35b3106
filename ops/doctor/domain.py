"""The certificate, and the zone of the domain."""

from __future__ import annotations

from datetime import UTC, datetime

from botocore.exceptions import ClientError

from ops.account import Account, code_of, translated
from ops.report import Mark, Result

_ASK = "aws acm request-certificate --validation-method DNS --domain-name NAME"
_SOON_DAYS = 14


def look_at_certificate(account: Account) -> list[Result]:
    """That it is in this region, issued, of the domain, and not about to end."""
    ingress = account.deployment.ingress
    if ingress.cloudfront:
        return [Result(Mark.OK, "certificate", "CloudFront has its own")]
    if ingress.domain and ingress.hosted_zone_id and not ingress.certificate_arn:
        return [Result(Mark.OK, "certificate", f"issued for {ingress.domain} by the deployment")]
    arn = account.certificate
    if arn is None:
        found = "none is named; the deployment asks for one"
        fix = f'make deploy ARGS="--certificate ARN", or ingress.certificate_arn; {_ASK}'
        return [Result(Mark.WRONG, "certificate", found, fix)]
    region = arn.split(":")[3]
    if region != account.region:
        found = f"{arn} is in {region}; a load balancer in {account.region} needs one from there"
        return [Result(Mark.WRONG, "certificate", found, f"{_ASK} --region {account.region}")]
    try:
        with translated():
            certificate = account.client("acm").describe_certificate(CertificateArn=arn)["Certificate"]
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        return [Result(Mark.WRONG, "certificate", f"there is no {arn}", _ASK)]
    names = [certificate["DomainName"], *certificate.get("SubjectAlternativeNames", [])]
    return [_certificate(account, certificate["Status"], certificate.get("NotAfter"), names)]


def _certificate(account: Account, status: str, end: datetime | None, names: list[str]) -> Result:
    domain = account.deployment.ingress.domain
    if status != "ISSUED":
        fix = "the CNAME records that aws acm describe-certificate tells, in your DNS"
        return Result(Mark.WRONG, "certificate", f"{names[0]}: {status}, not ISSUED", fix)
    if domain and not any(covers(name, domain) for name in names):
        found = f"it is for {', '.join(dict.fromkeys(names))}, not for {domain}"
        return Result(Mark.WRONG, "certificate", found, f"{_ASK.replace('NAME', domain)}")
    left = (end - datetime.now(UTC)).days if end else None
    if left is not None and left < _SOON_DAYS:
        fix = "look why ACM has not renewed it: its CNAME record must stay"
        return Result(Mark.WARNING, "certificate", f"{names[0]}: ends in {left} days", fix)
    return Result(Mark.OK, "certificate", f"{names[0]}: issued")


def covers(name: str, domain: str) -> bool:
    """Whether a certificate's name is that domain's; `*` stands for one label (RFC 6125, 6.4.3)."""
    if name.startswith("*."):
        label, _, rest = domain.partition(".")
        return bool(label) and rest.lower() == name[2:].lower()
    return name.lower() == domain.lower()


def look_at_zone(account: Account) -> list[Result]:
    """That the hosted zone is there, and the domain is in it."""
    ingress = account.deployment.ingress
    if not ingress.hosted_zone_id or not ingress.domain:
        return [Result(Mark.OK, "hosted zone", "none is used")]
    try:
        with translated():
            zone = account.client("route53").get_hosted_zone(Id=ingress.hosted_zone_id)["HostedZone"]
    except ClientError as error:
        if code_of(error) not in ("NoSuchHostedZone", "InvalidInput"):
            raise
        fix = "aws route53 list-hosted-zones, and its id in ingress.hosted_zone_id"
        return [Result(Mark.WRONG, "hosted zone", f"there is no {ingress.hosted_zone_id}", fix)]
    name = zone["Name"].rstrip(".")
    if ingress.domain != name and not ingress.domain.endswith(f".{name}"):
        found = f"{ingress.hosted_zone_id} is {name}, which {ingress.domain} is not in"
        return [Result(Mark.WRONG, "hosted zone", found, "ingress.domain or ingress.hosted_zone_id")]
    if zone.get("Config", {}).get("PrivateZone") and ingress.scheme == "public":
        found = f"{name} is a private zone: nobody outside finds {ingress.domain}, nor does ACM"
        return [Result(Mark.WRONG, "hosted zone", found, "the public zone's id in ingress.hosted_zone_id")]
    return [Result(Mark.OK, "hosted zone", f"{name} has {ingress.domain}")]
