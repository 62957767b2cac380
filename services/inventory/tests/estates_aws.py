"""An estate for the fake AWS: one of everything, each linked to others, in the words of the APIs."""

from __future__ import annotations

from typing import Any

from services.inventory.tests.fakes_aws import OWN, REGION, WHEN, Answer


def foundation(model_id: str, region: str = REGION) -> str:
    return f"arn:aws:bedrock:{region}::foundation-model/{model_id}"


CLAUDE = "anthropic.claude-3-5-sonnet-20240620-v1:0"
TITAN = "amazon.titan-text-express-v1"
EMBED = "amazon.titan-embed-text-v2:0"
UNUSED = "meta.llama3-1-8b-instruct-v1:0"
LEGACY = "cohere.command-text-v14"
INSTRUCTION = "You are the support agent of Example Ltd. Never tell prices."


def bedrock_estate(account: str = OWN, region: str = REGION) -> dict[str, Answer]:
    """One of everything that Bedrock has, each linked to others."""
    arn = f"arn:aws:bedrock:{region}:{account}"
    custom, capacity, guard = f"{arn}:custom-model/tuned/1", f"{arn}:provisioned-model/cap1", f"{arn}:guardrail/gr1"
    profile = f"{arn}:inference-profile/eu.{CLAUDE}"
    at = {"createdAt": WHEN, "updatedAt": WHEN}
    draft = {"agentId": "AGENT1", "agentVersion": "DRAFT"}
    group = {
        "actionGroupId": "GROUP1",
        "actionGroupName": "orders",
        "actionGroupState": "ENABLED",
        "updatedAt": WHEN,
    }
    return {
        "ListCustomModels": [
            {
                "modelArn": custom,
                "modelName": "support-tuned",
                "creationTime": WHEN,
                "baseModelArn": foundation(TITAN, region),
                "baseModelName": "Titan Text G1 - Express",
                "customizationType": "FINE_TUNING",
            }
        ],
        "GetCustomModel": {
            "modelArn": custom,
            "modelName": "support-tuned",
            "creationTime": WHEN,
            "baseModelArn": foundation(TITAN, region),
            "trainingDataConfig": {"s3Uri": "s3://training/tickets.jsonl"},
            "hyperParameters": {"epochCount": "2"},
        },
        "ListImportedModels": [
            {
                "modelArn": f"{arn}:imported-model/imp1",
                "modelName": "brought-along",
                "creationTime": WHEN,
                "instructSupported": True,
                "modelArchitecture": "llama",
            }
        ],
        "GetImportedModel": {
            "modelArn": f"{arn}:imported-model/imp1",
            "modelName": "brought-along",
            "modelDataSource": {"s3DataSource": {"s3Uri": "s3://weights/llama/"}},
            "modelKmsKeyArn": f"arn:aws:kms:{region}:{account}:key/1",
        },
        "ListProvisionedModelThroughputs": [
            {
                "provisionedModelName": "capacity",
                "provisionedModelArn": capacity,
                "modelArn": custom,
                "desiredModelArn": custom,
                "foundationModelArn": foundation(TITAN, region),
                "modelUnits": 1,
                "desiredModelUnits": 1,
                "status": "InService",
                "creationTime": WHEN,
                "lastModifiedTime": WHEN,
            }
        ],
        "ListCustomModelDeployments": [
            {
                "customModelDeploymentArn": f"{arn}:custom-model-deployment/d1",
                "customModelDeploymentName": "on-demand",
                "modelArn": custom,
                "createdAt": WHEN,
                "status": "Active",
            }
        ],
        "ListGuardrails": [
            {"id": "gr1", "arn": guard, "status": "READY", "name": "no-advice", "version": "DRAFT", **at}
        ],
        "ListKnowledgeBases": [{"knowledgeBaseId": "KB1", "name": "handbook", "status": "ACTIVE", "updatedAt": WHEN}],
        "GetKnowledgeBase": {
            "knowledgeBase": {
                "knowledgeBaseId": "KB1",
                "name": "handbook",
                "knowledgeBaseArn": f"{arn}:knowledge-base/KB1",
                "roleArn": f"arn:aws:iam::{account}:role/kb",
                "knowledgeBaseConfiguration": {
                    "type": "VECTOR",
                    "vectorKnowledgeBaseConfiguration": {"embeddingModelArn": foundation(EMBED, region)},
                },
                "storageConfiguration": {
                    "type": "OPENSEARCH_SERVERLESS",
                    "opensearchServerlessConfiguration": {
                        "collectionArn": f"arn:aws:aoss:{region}:{account}:collection/c1",
                        "vectorIndexName": "handbook",
                        "fieldMapping": {"vectorField": "v", "textField": "t", "metadataField": "m"},
                    },
                },
                "status": "ACTIVE",
                **at,
            }
        },
        "ListDataSources": [
            {
                "knowledgeBaseId": "KB1",
                "dataSourceId": "DS1",
                "name": "pages",
                "status": "AVAILABLE",
                "updatedAt": WHEN,
            }
        ],
        "GetDataSource": {
            "dataSource": {
                "knowledgeBaseId": "KB1",
                "dataSourceId": "DS1",
                "name": "pages",
                "status": "AVAILABLE",
                "dataSourceConfiguration": {
                    "type": "S3",
                    "s3Configuration": {"bucketArn": "arn:aws:s3:::handbook", "inclusionPrefixes": ["public/"]},
                },
                **at,
            }
        },
        "ListAgents": [{"agentId": "AGENT1", "agentName": "support", "agentStatus": "PREPARED", "updatedAt": WHEN}],
        "GetAgent": {
            "agent": {
                **draft,
                "agentName": "support",
                "agentArn": f"{arn}:agent/AGENT1",
                "agentStatus": "PREPARED",
                "foundationModel": f"eu.{CLAUDE}",
                "instruction": INSTRUCTION,
                "idleSessionTTLInSeconds": 600,
                "agentResourceRoleArn": f"arn:aws:iam::{account}:role/agent",
                "guardrailConfiguration": {"guardrailIdentifier": "gr1", "guardrailVersion": "1"},
                "agentCollaboration": "SUPERVISOR",
                **at,
            }
        },
        "ListAgentActionGroups": [group],
        "GetAgentActionGroup": {
            "agentActionGroup": {
                **draft,
                **group,
                "createdAt": WHEN,
                "actionGroupExecutor": {"lambda": f"arn:aws:lambda:{region}:{account}:function:orders"},
                "functionSchema": {"functions": [{"name": "refund"}, {"name": "find_order"}]},
            }
        },
        "ListAgentKnowledgeBases": [{"knowledgeBaseId": "KB1", "knowledgeBaseState": "ENABLED", "updatedAt": WHEN}],
        "ListAgentAliases": [
            {
                "agentAliasId": "ALIAS1",
                "agentAliasName": "live",
                "agentAliasStatus": "PREPARED",
                "routingConfiguration": [{"agentVersion": "1", "provisionedThroughput": capacity}],
                **at,
            }
        ],
        "ListAgentCollaborators": [
            {
                **draft,
                "collaboratorId": "C1",
                "agentDescriptor": {"aliasArn": f"{arn}:agent-alias/AGENT2/ALIAS2"},
                "collaborationInstruction": "ask it for refunds",
                "relayConversationHistory": "DISABLED",
                "collaboratorName": "refunds",
                "createdAt": WHEN,
                "lastUpdatedAt": WHEN,
            }
        ],
        "ListInferenceProfiles": [
            {
                "inferenceProfileName": "EU Claude",
                "inferenceProfileArn": profile,
                "models": [{"modelArn": foundation(CLAUDE, region)}, {"modelArn": foundation(CLAUDE, "eu-central-1")}],
                "inferenceProfileId": f"eu.{CLAUDE}",
                "status": "ACTIVE",
                "type": "SYSTEM_DEFINED",
            },
            {
                "inferenceProfileName": "EU Nova, which nobody uses",
                "inferenceProfileArn": f"{arn}:inference-profile/eu.amazon.nova-lite-v1:0",
                "models": [{"modelArn": foundation("amazon.nova-lite-v1:0", region)}],
                "inferenceProfileId": "eu.amazon.nova-lite-v1:0",
                "status": "ACTIVE",
                "type": "SYSTEM_DEFINED",
            },
            {
                "inferenceProfileName": "billing",
                "inferenceProfileArn": f"{arn}:application-inference-profile/p1",
                "models": [{"modelArn": foundation(LEGACY, region)}],
                "inferenceProfileId": "p1",
                "status": "ACTIVE",
                "type": "APPLICATION",
            },
        ],
        "ListFoundationModels": [
            _catalogued(CLAUDE, "Claude 3.5 Sonnet", "Anthropic", region),
            _catalogued(TITAN, "Titan Text G1 - Express", "Amazon", region),
            _catalogued(EMBED, "Titan Text Embeddings V2", "Amazon", region, outputs=["EMBEDDING"]),
            _catalogued(UNUSED, "Llama 3.1 8B Instruct", "Meta", region),
            _catalogued(LEGACY, "Command", "Cohere", region, status="LEGACY"),
            _catalogued("ai21.jamba-1-5-mini-v1:0", "Jamba 1.5 Mini", "AI21 Labs", region),
        ],
        "GetFoundationModelAvailability": lambda asked: {
            "modelId": asked["modelId"],
            "agreementAvailability": {"status": "AVAILABLE" if asked["modelId"] == UNUSED else "NOT_AVAILABLE"},
            "authorizationStatus": "AUTHORIZED",
            "entitlementAvailability": "AVAILABLE",
            "regionAvailability": "AVAILABLE",
        },
        "GetModelInvocationLoggingConfiguration": {},
        "GetResources": [
            {
                "ResourceARN": f"{arn}:agent/AGENT1",
                "Tags": [
                    {"Key": "Owner", "Value": "support-team"},
                    {"Key": "data-classification", "Value": "confidential"},
                    {"Key": "Environment", "Value": "prod"},
                    {"Key": "Contact", "Value": "support@example.com"},
                ],
            },
            {"ResourceARN": guard, "Tags": [{"Key": "team", "Value": "security"}]},
            {"ResourceARN": custom, "Tags": [{"Key": "classification", "Value": "C3"}]},
        ],
    }


def _catalogued(
    model_id: str, name: str, provider: str, region: str, outputs: list[str] | None = None, status: str = "ACTIVE"
) -> dict[str, Any]:
    return {
        "modelArn": foundation(model_id, region),
        "modelId": model_id,
        "modelName": name,
        "providerName": provider,
        "inputModalities": ["TEXT"],
        "outputModalities": outputs or ["TEXT"],
        "modelLifecycle": {"status": status},
    }


HUGGINGFACE_TOKEN = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH"


def sagemaker_estate(account: str = OWN, region: str = REGION) -> dict[str, Answer]:
    """A model with weights of its own, one of the Hugging Face hub, and an endpoint that serves both."""
    arn = f"arn:aws:sagemaker:{region}:{account}"
    hub = {
        "ModelName": "tgi",
        "ModelArn": f"{arn}:model/tgi",
        "CreationTime": WHEN,
        "ExecutionRoleArn": f"arn:aws:iam::{account}:role/sagemaker",
        "EnableNetworkIsolation": False,
        "PrimaryContainer": {
            "Image": f"763104351884.dkr.ecr.{region}.amazonaws.com/huggingface-pytorch-tgi-inference:2.4",
            "Environment": {"HF_MODEL_ID": "acme/tiny-chat", "HF_TOKEN": HUGGINGFACE_TOKEN},
        },
    }
    own = {
        "ModelName": "Fraud",
        "ModelArn": f"{arn}:model/fraud",
        "CreationTime": WHEN,
        "EnableNetworkIsolation": True,
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        "PrimaryContainer": {
            "Image": f"{account}.dkr.ecr.{region}.amazonaws.com/fraud@sha256:" + "ab" * 32,
            "ModelDataUrl": "s3://weights/fraud.tar.gz",
        },
    }
    described = {str(model["ModelName"]): model for model in (hub, own)}
    summary = {
        "EndpointName": "chat",
        "EndpointArn": f"{arn}:endpoint/chat",
        "CreationTime": WHEN,
        "LastModifiedTime": WHEN,
        "EndpointStatus": "InService",
    }
    return {
        "ListModels": [
            {key: model[key] for key in ("ModelName", "ModelArn", "CreationTime")} for model in described.values()
        ],
        "DescribeModel": lambda asked: described[asked["ModelName"]],
        "ListEndpoints": [summary],
        "DescribeEndpoint": {**summary, "EndpointConfigName": "chat-1"},
        "DescribeEndpointConfig": {
            "EndpointConfigName": "chat-1",
            "EndpointConfigArn": f"{arn}:endpoint-config/chat-1",
            "CreationTime": WHEN,
            "ProductionVariants": [
                {"VariantName": "main", "ModelName": "tgi"},
                {"VariantName": "shadow", "ModelName": "Fraud"},
            ],
        },
        "GetResources": [
            {"ResourceARN": f"{arn}:model/fraud", "Tags": [{"Key": "owner_team", "Value": "risk"}]},
            {"ResourceARN": f"{arn}:endpoint/chat", "Tags": [{"Key": "env", "Value": "staging"}]},
        ],
    }
