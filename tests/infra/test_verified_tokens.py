"""`ingress.jwt` with real signatures: HAProxy plays the load balancer by the template's rules.

It does what AWS documents of `jwt-validation`: RS256 with the issuer's public key, `iss`, `exp` and further
claims, and then the next action. docs/operations.md lists what only AWS can show.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support import proxies
from tests.support.live import live
from tests.support.scripted_engine import ScriptedEngine, whole

TEMPLATE = json.loads((Path(__file__).parent / "snapshots/own_domain.json").read_text())["serving"]
KEY = "a-key-of-some-length"
ISSUER_KEY, OTHER_KEY = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
PUBLIC = ISSUER_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def rules() -> list[dict[str, Any]]:
    """The rules of the HTTPS listener in the order in which the load balancer tries them."""
    found = [
        resource["Properties"]
        for resource in TEMPLATE["Resources"].values()
        if resource["Type"] == "AWS::ElasticLoadBalancingV2::ListenerRule"
    ]
    return sorted(found, key=lambda rule: int(rule["Priority"]))


def configuration(public_key: Path) -> str:
    """HAProxy's lines for the rules. Paths that no rule has get a 404."""
    lines = [
        "http-request set-var(txn.now) date()",
        "http-request set-var(txn.token) http_auth_bearer",
        "http-request set-var(txn.alg) http_auth_bearer,jwt_header_query('$.alg')",
        "http-request set-var(txn.exp) http_auth_bearer,jwt_payload_query('$.exp','int')",
    ]
    for number, rule in enumerate(rules()):
        (condition,) = rule["Conditions"]
        patterns = [re.escape(one).replace(r"\*", ".*") for one in condition["PathPatternConfig"]["Values"]]
        lines.append(f"acl rule{number} path_reg {' '.join(f'^{pattern}$' for pattern in patterns)}")
        *verifications, forward = sorted(rule["Actions"], key=lambda action: int(action.get("Order", 1)))
        assert forward["Type"] == "forward"
        for action in verifications:
            assert action["Type"] == "jwt-validation"
            lines += [
                f"http-request deny deny_status 401 if rule{number} {one}"
                for one in wrong(action, public_key)
            ]
    served = " ".join(f"!rule{number}" for number in range(len(rules())))
    return "\n".join([*lines, f"http-request deny deny_status 404 if {served}"])


def wrong(action: dict[str, Any], public_key: Path) -> list[str]:
    """HAProxy's conditions under which the verification rejects a request."""
    config = action["JwtValidationConfig"]
    assert config["JwksEndpoint"].startswith("https://")
    claims = {"iss": config["Issuer"]}
    for claim in config["AdditionalClaims"]:
        assert claim["Format"] == "single-string"
        (claims[claim["Name"]],) = claim["Values"]
    return [
        "!{ var(txn.token) -m found }",
        "!{ var(txn.alg) -m str RS256 }",
        f'!{{ var(txn.token),jwt_verify(txn.alg,"{public_key}") -m int 1 }}',
        "!{ var(txn.exp) -m found }",
        "{ var(txn.exp),sub(txn.now) lt 0 }",
        *(
            f"!{{ http_auth_bearer,jwt_payload_query('$.{name}') -m str {value} }}"
            for name, value in claims.items()
        ),
    ]


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def token(*, key: rsa.RSAPrivateKey = ISSUER_KEY, algorithm: str = "RS256", **claims: Any) -> str:
    said = {
        "iss": "https://login.example.com/",
        "aud": "tandem",
        "exp": int(time.time()) + 600,
        "sub": "alice",
        **claims,
    }
    parts = [
        {"alg": algorithm, "typ": "JWT"},
        {name: value for name, value in said.items() if value is not None},
    ]
    text = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    if algorithm == "none":
        return f"{text}."
    if algorithm == "HS256":  # with the public key as the secret
        mac = hmac.HMAC(PUBLIC, hashes.SHA256())
        mac.update(text.encode())
        return f"{text}.{encoded(mac.finalize())}"
    return f"{text}.{encoded(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@pytest.fixture
async def site(engine: ScriptedEngine, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The load balancer, in front of an orchestrator with the template's own settings."""
    proxies.install()
    engine.otherwise = whole("ok")
    public_key = tmp_path / "issuer.pem"
    public_key.write_bytes(PUBLIC)
    settings = {
        "JWT_ISSUER": "https://login.example.com/",
        "JWT_AUDIENCE": "tandem",
        "API_KEYS": f"robot:{hashlib.sha256(KEY.encode()).hexdigest()}",
    }
    async with live(engine.url, **settings) as server:
        with proxies.proxy("haproxy", [server.port], tmp_path, rules=configuration(public_key)) as port:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                yield client


async def ask(site: httpx.AsyncClient, path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
    return await site.post(path, json=body, headers=headers)


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "//v1/chat/completions", "/chat/completions", "/openai/v1/chat/completions"],
)
async def test_person_with_a_token_is_answered_and_counted(site: httpx.AsyncClient, path: str) -> None:
    bearer = {"authorization": f"Bearer {token()}"}
    assert (await ask(site, path, **bearer)).status_code == 200
    used = (await site.get("/v1/usage", headers=bearer)).json()
    assert (used["key"], [row["key"] for row in used["data"]]) == ("jwt:alice", ["jwt:alice"])


async def test_key_beside_a_token_says_whose_request_it_is(site: httpx.AsyncClient) -> None:
    both = {"authorization": f"Bearer {token()}", "x-api-key": KEY}
    assert (await ask(site, **both)).status_code == 200
    assert (await site.get("/v1/usage", headers=both)).json()["key"] == "robot"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Bearer {KEY}"},
        {"x-api-key": KEY},
        {"authorization": f"Bearer {token(key=OTHER_KEY)}"},
        {"authorization": f"Bearer {token(algorithm='none')}"},
        {"authorization": f"Bearer {token(algorithm='HS256')}"},
        {"authorization": f"Bearer {token(aud='other')}"},
        {"authorization": f"Bearer {token(iss='https://evil.example.com/')}"},
        {"authorization": f"Bearer {token(exp=1)}"},
    ],
    ids=[
        "nothing",
        "a key",
        "only a key",
        "another signer",
        "none",
        "HS256",
        "audience",
        "issuer",
        "expired",
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions"])
async def test_everything_else_is_rejected_before_it_reaches_the_orchestrator(
    site: httpx.AsyncClient, engine: ScriptedEngine, headers: dict[str, str], path: str
) -> None:
    answer = await ask(site, path, **headers)
    assert answer.status_code == 401
    assert "x-request-id" not in answer.headers  # which the orchestrator would have added
    assert engine.requests == []


async def test_only_the_pages_and_the_health_check_need_no_token(site: httpx.AsyncClient) -> None:
    found = {
        path: (await site.get(path)).status_code
        for path in ("/", "/docs", "/health", "/v1/models", "/v1/tools")
    }
    assert found == {"/": 200, "/docs": 200, "/health": 200, "/v1/models": 401, "/v1/tools": 401}
    assert (await site.get("/metrics")).status_code == 404
