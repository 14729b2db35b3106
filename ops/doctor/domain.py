"""Checks how clients get in over HTTPS: CloudFront, or a certificate, a domain and its DNS records."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from ops import dns
from ops.account import Account, code_of, translated
from ops.report import Result, Status

_ASK = "aws acm request-certificate --validation-method DNS --domain-name NAME"
_SOON_DAYS = 14
_NO_DOMAIN = (
    "set ingress.cloudfront: true, which needs neither domain nor certificate, or set ingress.domain and "
    "either ingress.hosted_zone_id or ingress.certificate_arn"
)
NOT_VERIFIED = "Your account must be verified before you can add new CloudFront resources"
"""What CloudFormation reports for an account that AWS does not trust with CloudFront yet."""

VERIFY = (
    "open a case with AWS Support (account and billing) and wait for its answer, or do without CloudFront: "
    "ingress.cloudfront: false, and ingress.domain with a certificate"
)


def check_certificate(account: Account) -> list[Result]:
    """Checks that the certificate is in this region, issued, for the domain, and not about to expire."""
    ingress = account.deployment.ingress
    if ingress.cloudfront:
        return [Result(Status.OK, "certificate", "CloudFront uses its own")]
    if not ingress.domain:
        found = "without a domain: no certificate covers the load balancer's own name"
        return [Result(Status.ERROR, "certificate", found, _NO_DOMAIN)]
    if ingress.hosted_zone_id and not ingress.certificate_arn:
        return [Result(Status.OK, "certificate", f"the deployment requests one for {ingress.domain}")]
    if account.certificate is None:
        found = "none is set, but the deployment needs one"
        ask = _ASK.replace("NAME", ingress.domain)
        fix = f'make deploy ARGS="--certificate ARN", or set ingress.certificate_arn; {ask}'
        return [Result(Status.ERROR, "certificate", found, fix)]
    return [_named_certificate(account, account.certificate, ingress.domain)]


def _named_certificate(account: Account, arn: str, domain: str) -> Result:
    region = arn.split(":")[3]
    ask = _ASK.replace("NAME", domain)
    if region != account.region:
        found = f"{arn} is in {region}, but a load balancer in {account.region} needs one from its own region"
        return Result(Status.ERROR, "certificate", found, f"{ask} --region {account.region}")
    try:
        with translated():
            certificate = account.client("acm").describe_certificate(CertificateArn=arn)["Certificate"]
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        return Result(Status.ERROR, "certificate", f"{arn} does not exist", ask)
    names = [certificate["DomainName"], *certificate.get("SubjectAlternativeNames", [])]
    if certificate["Status"] != "ISSUED":
        found = f"{names[0]}: {certificate['Status']}, not ISSUED"
        return Result(Status.ERROR, "certificate", found, _validation(certificate))
    return _issued(domain, certificate.get("NotAfter"), names)


def _validation(certificate: Any) -> str:
    """Returns how to validate a certificate: the DNS records, where ACM names them."""
    options = certificate.get("DomainValidationOptions", [])
    records = [option["ResourceRecord"] for option in options if "ResourceRecord" in option]
    named = " and ".join(f"{one['Name']} {one['Type']} {one['Value']}" for one in records)
    return f"create in your DNS: {named or 'the CNAME records that aws acm describe-certificate shows'}"


def _issued(domain: str, end: datetime | None, names: list[str]) -> Result:
    if not any(covers(name, domain) for name in names):
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


def check_cloudfront(account: Account) -> list[Result]:
    """Checks whether the account has used CloudFront before. No AWS API returns whether it may."""
    if not account.deployment.ingress.cloudfront:
        return [Result(Status.OK, "CloudFront", "not used")]
    listed = account.client("cloudfront").list_distributions(MaxItems="1")["DistributionList"]
    if listed["Quantity"]:
        return [Result(Status.OK, "CloudFront", "the account has used it before")]
    found = f'the account has no distribution yet, and AWS may answer "{NOT_VERIFIED}"'
    return [Result(Status.WARNING, "CloudFront", found, f"deploy; if that happens, {VERIFY}")]


def check_record(account: Account) -> list[Result]:
    """Checks that the domain leads to the deployed load balancer."""
    ingress = account.deployment.ingress
    if not ingress.domain:
        return [Result(Status.OK, "DNS", "no domain: clients use CloudFront's name")]
    outputs = account.outputs()
    balancer = outputs["LoadBalancerName"]
    if "DnsRecord" in outputs:
        fix = f"create this DNS record: {outputs['DnsRecord']}"
    else:
        fix = "the record is in your hosted zone: check that your domain is delegated to its name servers"
    found = dns.addresses(ingress.domain)
    if not found:
        return [Result(Status.ERROR, "DNS", f"{ingress.domain} does not resolve", fix)]
    if not found & dns.addresses(balancer):
        text = f"{ingress.domain} leads to {', '.join(sorted(found))}, not to {balancer}"
        return [Result(Status.WARNING, "DNS", text, f"{fix}, unless your own proxy is in between")]
    return [Result(Status.OK, "DNS", f"{ingress.domain} leads to the load balancer")]
