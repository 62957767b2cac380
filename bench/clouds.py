"""An AWS estate of some 10,000 objects behind an HTTP server of its own process: what discovery benches look at.

`python -m bench.clouds` serves it and prints its address.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from services.inventory.tests.fakes import serving
from services.inventory.tests.fakes_aws import OWN, REGION, WHEN, Answer, FakeAws

ARN = f"arn:aws:bedrock:{REGION}:{OWN}"
MAKER = f"arn:aws:sagemaker:{REGION}:{OWN}"
BASES = [f"vendor{n % 7}.model-{n}-v1:0" for n in range(40)]
COUNTS = {
    "custom models": 1_500,
    "imported models": 300,
    "throughputs": 600,
    "guardrails": 600,
    "profiles": 600,
    "agents": 400,
    "knowledge bases": 300,
    "sagemaker models": 2_200,
    "sagemaker endpoints": 1_600,
}
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIABENCHBENCHBENCH2",
    "AWS_SECRET_ACCESS_KEY": "not-a-real-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def _base(number: int) -> str:
    return f"arn:aws:bedrock:{REGION}::foundation-model/{BASES[number % len(BASES)]}"


def _number(asked: Any) -> int:
    return int("".join(character for character in str(asked) if character.isdigit())[-6:])


def bedrock(counts: dict[str, int]) -> dict[str, Answer]:
    at = {"createdAt": WHEN, "updatedAt": WHEN}
    draft = {"agentVersion": "DRAFT"}
    role = f"arn:aws:iam::{OWN}:role/service"

    def custom(n: int) -> dict[str, Any]:
        return {
            "modelArn": f"{ARN}:custom-model/tuned/{n:06}",
            "modelName": f"tuned-{n}",
            "creationTime": WHEN,
            "baseModelArn": _base(n),
            "baseModelName": BASES[n % len(BASES)],
        }

    def agent(n: int) -> dict[str, Any]:
        return {"agentId": f"A{n:06}", "agentName": f"agent-{n}", "agentStatus": "PREPARED", "updatedAt": WHEN}

    def groups(asked: Any) -> list[dict[str, Any]]:
        n = _number(asked["agentId"])
        state = {"actionGroupState": "ENABLED", "updatedAt": WHEN}
        return [{"actionGroupId": f"G{n}{k}", "actionGroupName": f"tool-{k}", **state} for k in range(2)]

    return {
        "ListCustomModels": [custom(n) for n in range(counts["custom models"])],
        "GetCustomModel": lambda asked: {
            **custom(_number(asked["modelIdentifier"])),
            "trainingDataConfig": {"s3Uri": f"s3://training/{_number(asked['modelIdentifier']) % 100}.jsonl"},
        },
        "ListImportedModels": [
            {"modelArn": f"{ARN}:imported-model/{n:06}", "modelName": f"imported-{n}", "creationTime": WHEN}
            for n in range(counts["imported models"])
        ],
        "GetImportedModel": lambda asked: {"modelDataSource": {"s3DataSource": {"s3Uri": "s3://weights/x/"}}},
        "ListProvisionedModelThroughputs": [
            {
                "provisionedModelName": f"capacity-{n}",
                "provisionedModelArn": f"{ARN}:provisioned-model/{n:06}",
                "modelArn": custom(n)["modelArn"],
                "desiredModelArn": custom(n)["modelArn"],
                "foundationModelArn": _base(n),
                "modelUnits": 1,
                "desiredModelUnits": 1,
                "status": "InService",
                "creationTime": WHEN,
                "lastModifiedTime": WHEN,
            }
            for n in range(counts["throughputs"])
        ],
        "ListGuardrails": [
            {
                "id": f"g{n}",
                "arn": f"{ARN}:guardrail/g{n}",
                "status": "READY",
                "name": f"guardrail-{n}",
                "version": "1",
                **at,
            }
            for n in range(counts["guardrails"])
        ],
        "ListInferenceProfiles": [
            {
                "inferenceProfileName": f"application-{n}",
                "inferenceProfileArn": f"{ARN}:application-inference-profile/{n}",
                "models": [{"modelArn": _base(n)}],
                "inferenceProfileId": f"p{n}",
                "status": "ACTIVE",
                "type": "APPLICATION",
            }
            for n in range(counts["profiles"])
        ],
        "ListKnowledgeBases": [
            {"knowledgeBaseId": f"K{n:06}", "name": f"knowledge-{n}", "status": "ACTIVE", "updatedAt": WHEN}
            for n in range(counts["knowledge bases"])
        ],
        "GetKnowledgeBase": lambda asked: {
            "knowledgeBase": {
                "knowledgeBaseId": asked["knowledgeBaseId"],
                "name": "x",
                "knowledgeBaseArn": f"{ARN}:knowledge-base/{asked['knowledgeBaseId']}",
                "roleArn": role,
                "knowledgeBaseConfiguration": {
                    "type": "VECTOR",
                    "vectorKnowledgeBaseConfiguration": {"embeddingModelArn": _base(3)},
                },
                "storageConfiguration": {
                    "type": "OPENSEARCH_SERVERLESS",
                    "opensearchServerlessConfiguration": {
                        "collectionArn": f"arn:aws:aoss:{REGION}:{OWN}:collection/{asked['knowledgeBaseId']}",
                        "vectorIndexName": "v",
                        "fieldMapping": {"vectorField": "v", "textField": "t", "metadataField": "m"},
                    },
                },
                "status": "ACTIVE",
                **at,
            }
        },
        "ListDataSources": lambda asked: {
            "dataSourceSummaries": [
                {
                    "knowledgeBaseId": asked["knowledgeBaseId"],
                    "dataSourceId": "D1",
                    "name": "documents",
                    "status": "AVAILABLE",
                    "updatedAt": WHEN,
                }
            ]
        },
        "GetDataSource": lambda asked: {
            "dataSource": {
                "knowledgeBaseId": asked["knowledgeBaseId"],
                "dataSourceId": "D1",
                "name": "documents",
                "status": "AVAILABLE",
                "dataSourceConfiguration": {
                    "type": "S3",
                    "s3Configuration": {"bucketArn": f"arn:aws:s3:::{asked['knowledgeBaseId'].lower()}"},
                },
                **at,
            }
        },
        "ListAgents": [agent(n) for n in range(counts["agents"])],
        "GetAgent": lambda asked: {
            "agent": {
                **agent(_number(asked["agentId"])),
                **draft,
                "agentArn": f"{ARN}:agent/{asked['agentId']}",
                "foundationModel": BASES[_number(asked["agentId"]) % len(BASES)],
                "instruction": f"You are agent {asked['agentId']} and help politely. " * 20,
                "idleSessionTTLInSeconds": 600,
                "agentResourceRoleArn": role,
                **at,
            }
        },
        "ListAgentActionGroups": lambda asked: {"actionGroupSummaries": groups(asked)},
        "GetAgentActionGroup": lambda asked: {
            "agentActionGroup": {
                "agentId": asked["agentId"],
                **draft,
                **groups(asked)[int(asked["actionGroupId"][-1])],
                "createdAt": WHEN,
                "actionGroupExecutor": {"lambda": f"arn:aws:lambda:{REGION}:{OWN}:function:{asked['actionGroupId']}"},
                "functionSchema": {"functions": [{"name": f"do_{k}"} for k in range(4)]},
            }
        },
        "ListAgentKnowledgeBases": lambda asked: {
            "agentKnowledgeBaseSummaries": [
                {
                    "knowledgeBaseId": f"K{_number(asked['agentId']) % 300:06}",
                    "knowledgeBaseState": "ENABLED",
                    "updatedAt": WHEN,
                }
            ]
        },
        "ListAgentAliases": lambda asked: {
            "agentAliasSummaries": [
                {"agentAliasId": "L1", "agentAliasName": "live", "agentAliasStatus": "PREPARED", **at}
            ]
        },
        "ListFoundationModels": [
            {
                "modelArn": f"arn:aws:bedrock:{REGION}::foundation-model/{name}",
                "modelId": name,
                "modelName": name,
                "providerName": "vendor",
                "outputModalities": ["TEXT"],
                "modelLifecycle": {"status": "ACTIVE"},
            }
            for name in BASES
        ],
        "GetModelInvocationLoggingConfiguration": {},
        "GetResources": [
            {"ResourceARN": f"{ARN}:agent/A{n:06}", "Tags": [{"Key": "owner", "Value": f"team-{n % 50}"}]}
            for n in range(counts["agents"])
        ],
    }


def sagemaker(counts: dict[str, int]) -> dict[str, Answer]:
    def model(n: int) -> dict[str, Any]:
        return {"ModelName": f"model-{n:06}", "ModelArn": f"{MAKER}:model/model-{n:06}", "CreationTime": WHEN}

    def endpoint(n: int) -> dict[str, Any]:
        return {
            "EndpointName": f"endpoint-{n:06}",
            "EndpointArn": f"{MAKER}:endpoint/endpoint-{n:06}",
            "CreationTime": WHEN,
            "LastModifiedTime": WHEN,
            "EndpointStatus": "InService",
        }

    return {
        "ListModels": [model(n) for n in range(counts["sagemaker models"])],
        "DescribeModel": lambda asked: {
            **model(_number(asked["ModelName"])),
            "EnableNetworkIsolation": True,
            "PrimaryContainer": {
                "Image": f"{OWN}.dkr.ecr.{REGION}.amazonaws.com/serve:{_number(asked['ModelName']) % 50}",
                "ModelDataUrl": f"s3://weights/{asked['ModelName']}.tar.gz",
                "Environment": {"SAGEMAKER_PROGRAM": "inference.py"},
            },
        },
        "ListEndpoints": [endpoint(n) for n in range(counts["sagemaker endpoints"])],
        "DescribeEndpoint": lambda asked: {
            **endpoint(_number(asked["EndpointName"])),
            "EndpointConfigName": f"configuration-{_number(asked['EndpointName']):06}",
        },
        "DescribeEndpointConfig": lambda asked: {
            "EndpointConfigName": asked["EndpointConfigName"],
            "EndpointConfigArn": f"{MAKER}:endpoint-config/{asked['EndpointConfigName']}",
            "CreationTime": WHEN,
            "ProductionVariants": [
                {"VariantName": "v", "ModelName": f"model-{_number(asked['EndpointConfigName']) % 2_200:06}"}
            ],
        },
    }


def estate(counts: dict[str, int]) -> dict[str, Answer]:
    """All that the two services answer; tags of both are one listing."""
    return {**sagemaker(counts), **bedrock(counts)}


@contextmanager
def served() -> Iterator[str]:
    """The estate in a process of its own; its address."""
    process = subprocess.Popen([sys.executable, "-m", "bench.clouds"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


async def _serve() -> None:
    scale = float(os.environ.get("SCALE", "1"))
    counts = {name: max(1, int(count * scale)) for name, count in COUNTS.items()}
    fake = FakeAws(estate={(OWN, REGION): estate(counts)}, page_size=100, validate=False)
    async with serving(fake.app()) as url:
        print(url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
