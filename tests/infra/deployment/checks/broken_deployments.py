"""Invalid deployments, by the rule that must find them."""

from __future__ import annotations

from typing import Any

from infra.deployment.file import Deployment

CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:name-AbCdEf"
DOCS = "https://mcp.example.com/mcp"
JWT = {"issuer": "https://login.example.com/", "jwks": "https://login.example.com/keys", "audience": "tandem"}
VPC = {
    "vpc_id": "vpc-0123456789abcdef0",
    "cidr": "10.1.0.0/16",
    "availability_zones": ["us-east-1a", "us-east-1b"],
    "private_subnet_ids": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
}


def deployment(**settings: Any) -> Deployment:
    """Builds the default deployment with some settings changed, such as `gpu__replicas=2`."""
    data: dict[str, Any] = {}
    for path, value in settings.items():
        *sections, name = path.split("__")
        target = data
        for section in sections:
            target = target.setdefault(section, {})
        target[name] = value
    return Deployment.model_validate(data)


SMALL = {"id": "Qwen/Qwen2.5-0.5B-Instruct"}
TEXT_ONLY = "--language-model-only"
TAKES_IMAGES = {"MODEL_TAKES_IMAGES": "true"}
TONE = {"tone": "s3://acme-adapters/tone"}
LATER = "s3://acme-adapters/later"


def several(**entries: dict[str, Any]) -> Deployment:
    """Builds a deployment with several models."""
    return Deployment.model_validate({"models": entries})


BROKEN = {
    "model-kind": [
        deployment(model__kind="embedding", model__tool_call_parser="hermes"),
        deployment(model__kind="reranker", model__reasoning_parser="qwen3"),
        deployment(model__kind="vision", model__extra_args=[TEXT_ONLY]),
    ],
    "audio-libraries": [deployment(model__id="openai/whisper-large-v3-turbo", model__kind="speech-to-text")],
    "adapters": [
        deployment(model__kind="embedding", model__adapters=TONE),
        deployment(model__kind="reranker", model__adapters_from=LATER),
    ],
    "adapters-from": [
        deployment(model__adapters=TONE, model__adapters_from="s3://acme-adapters"),
        deployment(model__adapters_from=LATER, model__extra_args=["--api-server-count", "2"]),
    ],
    "adapters-from-shared": [
        several(one={"adapters_from": LATER}, two={**SMALL, "adapters_from": f"{LATER}/"}),
        several(one={"adapters_from": f"{LATER}/small"}, two={**SMALL, "adapters_from": LATER}),
    ],
    "adapter-settings": [
        deployment(model__max_loras=2),
        deployment(model__max_lora_rank=16),
        deployment(model__adapters=TONE, model__max_loras=2),
    ],
    "model-names": [
        several(one={}, two={}),
        several(one={}, two={**SMALL, "aliases": ["Qwen/Qwen2.5-7B-Instruct"]}),
        several(one={"adapters": TONE}, two={**SMALL, "adapters": TONE}),
        several(one={"aliases": ["gpt-4o"]}, two={**SMALL, "served_name": "gpt-4o"}),
        several(**{"a1-2": {}, "a12": SMALL}),
    ],
    "name-characters": [
        several(one={"aliases": ["gpt#4o"]}, two=SMALL),
        deployment(model__served_name="réponses?", model__aliases=["gpt-4o"]),
        deployment(model__served_name="vectors!", model__kind="embedding"),
    ],
    "takes-images": [
        several(one={}, two=SMALL).with_setting("orchestrator.environment", TAKES_IMAGES),
        deployment(model__aliases=["gpt-4o"], orchestrator__environment=TAKES_IMAGES),
    ],
    "fallback": [
        several(one={"kind": "embedding", "fallback": "two"}, two={**SMALL, "kind": "embedding"}),
        several(one={"fallback": "small"}, two=SMALL),
        several(one={"fallback": "one"}, two=SMALL),
        several(one={"fallback": "two"}, two={**SMALL, "fallback": "one"}),
        several(one={"fallback": "two"}, two={**SMALL, "kind": "embedding"}),
    ],
    "tool-parser": [
        deployment(model__id="Qwen/Qwen2.5-7B-Instrukt"),
        deployment(model__id="google/gemma-3-4b-it", model__hf_token_secret_arn=SECRET),
        deployment(model__tool_call_parser="hermess"),
    ],
    "reasoning-parser": [deployment(model__reasoning_parser="qwen4")],
    "gated-model": [deployment(model__id="meta-llama/Llama-3.1-8B-Instruct")],
    "model-source": [
        deployment(model__source="s3://acme-models/one", model__revision="v2"),
        deployment(model__source="s3://acme-models/one", model__hf_token_secret_arn=SECRET),
    ],
    "model-mirror": [
        deployment(
            model__id="Qwen/Qwen2.5-72B-Instruct",
            model__source="mirror",
            gpu__instance_types=["g6e.48xlarge"],
            gpu__gpus_per_task=8,
        )
    ],
    "context-length": [deployment(model__max_model_len=32_769)],
    "quantization": [deployment(model__quantization="awq"), deployment(model__quantization="fp9")],
    "gpu-dtype": [deployment(gpu__instance_types=["g4dn.xlarge"], model__id="Qwen/Qwen2.5-3B-Instruct")],
    "tensor-parallel": [
        deployment(gpu__instance_types=["g5.12xlarge"], gpu__gpus_per_task=3),
        deployment(gpu__instance_types=["g5.48xlarge"], gpu__gpus_per_task=8),
        deployment(gpu__instance_types=["g5.48xlarge"], gpu__gpus_per_task=6, model__id="Qwen/Qwen3.5-27B"),
    ],
    "model-fits": [
        deployment(model__id="Qwen/Qwen3-8B"),
        deployment(model__id="Qwen/Qwen2.5-14B-Instruct"),
        deployment(model__id="Qwen/Qwen3.5-27B"),
        deployment(model__id="Qwen/Qwen2.5-72B-Instruct", gpu__instance_types=["g6e.12xlarge"]),
        deployment(model__gpu_memory_utilization=0.75),
        deployment(gpu__instance_types=["g6e.2xlarge", "g5.2xlarge"], model__id="Qwen/Qwen2.5-14B-Instruct"),
    ],
    "model-not-sized": [
        deployment(model__id="Qwen/Qwen3.5-9B"),
        deployment(model__id="acme/Model-1", model__tool_call_parser="hermes"),
        deployment(model__quantization="compressed-tensors"),
    ],
    "model-size": [
        deployment(model__size={"weights_gib": 14.2, "layers": 28, "kv_heads": 4}),
        deployment(model__size={"config": "no/such/config.json"}),
    ],
    "gpu-headroom": [deployment(model__gpu_memory_utilization=0.99)],
    "queue": [deployment(model__max_num_seqs=128)],
    "extra-args": [
        deployment(model__extra_args=["--enforce-eager", "--max-model-len", "4096", "--seed=1"]),
        deployment(model__extra_args=["--max_num_seqs=4"]),
        deployment(model__extra_args=["-tp", "4"]),
        deployment(model__extra_args=["--api-key", "sk-1"]),
    ],
    "instance-type": [
        deployment(gpu__instance_types=["g5.xlrge"]),
        deployment(gpu__instance_types=["g5.xlarge", "m5.large"]),
    ],
    "gpus-per-task": [deployment(gpu__gpus_per_task=2)],
    "gpu-driver": [
        deployment(gpu__instance_types=["g7.2xlarge"]),
        deployment(gpu__instance_types=["g5.2xlarge", "g7.2xlarge"]),
    ],
    "task-memory": [
        deployment(gpu__task_memory_mib=24_576),
        deployment(gpu__shm_mib=12_000),
        deployment(gpu__task_memory_mib=15_000),
        deployment(gpu__instance_types=["g5.12xlarge"], gpu__replicas=4, gpu__task_memory_mib=60_000),
    ],
    "idle-gpus": [deployment(gpu__instance_types=["g5.12xlarge"])],
    "root-volume": [
        deployment(gpu__root_volume_gib=30),
        deployment(gpu__min_replicas=0, gpu__warm_instances=1),
    ],
    "instance-store": [
        deployment(
            model__id="Qwen/Qwen2.5-72B-Instruct",
            gpu__instance_types=["g6e.xlarge"],
            model__quantization="fp8",
        )
    ],
    "startup": [
        deployment(gpu__startup_seconds=60),
        deployment(
            model__id="Qwen/Qwen2.5-72B-Instruct",
            gpu__instance_types=["g6e.48xlarge"],
            gpu__gpus_per_task=8,
        ),
    ],
    "spot": [deployment(gpu__capacity="spot")],
    "spot-base": [
        deployment(gpu__on_demand_base=1),
        deployment(gpu__capacity="spot", gpu__on_demand_base=1),
        deployment(gpu__capacity="spot", gpu__replicas=2, gpu__on_demand_base=3),
    ],
    "replica-forms": [
        deployment(gpu__replicas=2, gpu__max_replicas=3),
        deployment(gpu__replicas=1, gpu__min_replicas=0),
    ],
    "replica-limits": [
        deployment(gpu__min_replicas=3, gpu__max_replicas=2),
    ],
    "schedule-limits": [
        deployment(gpu__schedule=[{"cron": "0 8 * * *", "min_replicas": 2}]),
        deployment(gpu__schedule=[{"cron": "0 8 30 FEB *", "max_replicas": 1}]),
    ],
    "schedule-runs": [
        deployment(gpu__schedule=[{"cron": "0 20 * * *", "max_replicas": 0}]),
    ],
    "idle-minutes": [
        deployment(gpu__min_replicas=0, gpu__idle_minutes=5),
        deployment(
            gpu__schedule=[{"cron": "0 20 * * *", "min_replicas": 0}, {"cron": "0 8 * * *"}],
            gpu__idle_minutes=2,
        ),
    ],
    "warm-spot": [
        deployment(
            gpu__min_replicas=0, gpu__warm_instances=1, gpu__root_volume_gib=160, gpu__capacity="spot"
        ),
    ],
    "warm-scaling": [
        deployment(gpu__warm_instances=1, gpu__root_volume_gib=160),
        deployment(gpu__replicas=2, gpu__warm_instances=1, gpu__root_volume_gib=160),
    ],
    "warm-count": [
        deployment(gpu__min_replicas=0, gpu__warm_instances=2, gpu__root_volume_gib=160),
        deployment(gpu__max_replicas=3, gpu__warm_instances=3, gpu__root_volume_gib=160),
    ],
    "scale-up": [deployment(gpu__max_replicas=2, gpu__scale_up_at=3.0)],
    "instance-hours": [
        deployment(gpu__max_instance_hours_per_day=20),
        deployment(gpu__min_replicas=2, gpu__max_replicas=4, gpu__max_instance_hours_per_day=48),
    ],
    "slack": [
        deployment(metrics__slack_channel_id="C0123456789"),
        deployment(metrics__slack_workspace_id="T0123456789"),
    ],
    "fargate-size": [
        deployment(orchestrator__memory_mib=1024),
        deployment(orchestrator__cpu=1000),
        deployment(orchestrator__cpu=1000, orchestrator__memory_mib=1000),
        deployment(orchestrator__cpu=256, orchestrator__memory_mib=4096),
    ],
    "task-count": [deployment(orchestrator__min_tasks=11)],
    "deregistration-delay": [deployment(ingress__deregistration_delay_seconds=300)],
    "idle-timeout": [
        deployment(ingress__idle_timeout_seconds=60),
        deployment(orchestrator__request_timeout_seconds=900, ingress__deregistration_delay_seconds=1000),
    ],
    "tool-timeout": [deployment(tools__timeout_seconds=300)],
    "database-tables": [deployment(tools__database_url_secret_arn=SECRET)],
    "tool-files": [
        deployment(tools__modules=["no_such_module"]),
        deployment(tools__modules=["shiping"], tools__directory="examples/tools"),
        deployment(tools__directory="no/such/directory"),
        deployment(tools__requirements="no/such/requirements.txt"),
        deployment(tools__requirements="services/orchestrator/requirements.in"),
    ],
    "variables": [
        deployment(orchestrator__environment={"TOOL_MODULES": "shipping"}),
        deployment(orchestrator__environment={"BOOTSTRAP_API_KEY": "a-long-key-of-some-sort"}),
        deployment(tools__environment={"LOG_LEVEL": "debug"}),
        deployment(tools__environment={"PYTHONPATH": "/elsewhere"}),
        deployment(tools__environment={"AWS_ACCESS_KEY_ID": "x"}),
        deployment(tools__secrets={"DATABASE_URL": SECRET}),
        deployment(tools__secrets={"CRM_TOKEN": SECRET}, tools__environment={"CRM_TOKEN": "x"}),
    ],
    "secret-values": [
        deployment(tools__environment={"CRM": "sk-" + 24 * "a"}),
        deployment(tools__environment={"CRM": "-----BEGIN RSA " + "PRIVATE KEY-----"}),
        deployment(tools__environment={"CRM_URL": "redis://user:password@cache.example.com"}),
        deployment(orchestrator__environment={"WEATHER_URL": "https://user:password@weather.example.com"}),
    ],
    "secret-names": [
        deployment(tools__environment={"CRM_TOKEN": "abc"}),
        deployment(tools__environment={"PASSWORD": "abc"}),
        deployment(tools__mcp=[{"name": "docs", "url": DOCS, "headers": {"Authorization": "abc"}}]),
    ],
    "tool-egress": [
        deployment(tools__egress=[{"port": 443, "cidr": "0.0.0.0/0"}]),
        deployment(tools__egress=[{"port": 6379, "security_group": "sg-0123456789abcdef0"}]),
        deployment(
            tools__egress=2 * [{"port": 6379, "security_group": "sg-0123456789abcdef0"}],
            network__existing_vpc=VPC,
            ingress__scheme="internal",
        ),
        deployment(
            tools__egress=[{"port": 5432, "cidr": "0.0.0.0/0"}],
            tools__database_url_secret_arn=SECRET,
            tools__database_tables=["orders"],
        ),
    ],
    "mcp-servers": [
        deployment(tools__mcp=[{"name": "my-docs", "url": DOCS}, {"name": "my_docs", "url": DOCS}]),
        deployment(
            tools__mcp=[
                {"name": "docs", "url": "http://mcp.example.com:443/", "headers": {"X-Key": {"arn": SECRET}}}
            ]
        ),
    ],
    "mcp-egress": [
        deployment(tools__mcp=[{"name": "docs", "url": "http://mcp.example.com/mcp"}]),
        deployment(tools__mcp=[{"name": "docs", "url": "https://mcp.example.com:8443/mcp"}]),
    ],
    "tool-permissions": [deployment(tools__statements=[{"actions": ["s3:GetObject"], "resources": ["*"]}])],
    "existing-vpc": [deployment(network__existing_vpc="vpc-0123456789abcdef0")],
    "nat": [deployment(network__nat="none")],
    "zones": [deployment(network__availability_zones=["us-east-1a"])],
    "addresses": [
        deployment(network__cidr="10.0.0.0/24", orchestrator__max_tasks=300),
        deployment(network__cidr="10.0.0.0/24", network__zones=6),
    ],
    "region": [
        deployment(region="us-west-2", network__availability_zones=["us-east-1a", "us-east-1b"]),
        deployment(region="eu-west-1", ingress__certificate_arn=CERTIFICATE),
        deployment(network__availability_zones=["eu-west-1a", "us-east-1b"]),
        deployment(region="eu-west-1", network__existing_vpc=VPC, ingress__scheme="internal"),
        deployment(region="eu-west-1", tools__secrets={"CRM_TOKEN": SECRET}),
    ],
    "public-subnets": [deployment(network__existing_vpc=VPC)],
    "certificate-domain": [deployment(ingress__certificate_arn=CERTIFICATE)],
    "jwt-https": [deployment(ingress__cloudfront=True, ingress__jwt=JWT)],
    "cloudfront-scheme": [deployment(ingress__cloudfront=True, ingress__scheme="internal")],
    "cloudfront-domain": [deployment(ingress__cloudfront=True, ingress__certificate_arn=CERTIFICATE)],
    "cloudfront-cidrs": [deployment(ingress__cloudfront=True, ingress__allowed_cidrs=["10.0.0.0/8"])],
    "cloudfront-timeout": [deployment(ingress__cloudfront=True)],
    "cloudfront-firewall": [
        deployment(ingress__cloudfront=True, ingress__waf=True),
        deployment(ingress__cloudfront=True, ingress__waf=True, region="eu-central-1"),
    ],
    "cloudfront-unlimited": [
        deployment(ingress__cloudfront=True),
        deployment(ingress__cloudfront=True, region="us-west-2"),
    ],
}
