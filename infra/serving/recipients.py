"""Who gets the alarms: an email address, a topic of the user's, a Slack channel."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_chatbot as chatbot
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.deployment.settings import Metrics as Settings
from infra.suppressions import accept


class Recipients(Construct):
    """The topics that alarms are sent to: one of the deployment for subscribers, and the user's own."""

    def __init__(self, scope: Construct, construct_id: str, *, metrics: Settings) -> None:
        super().__init__(scope, construct_id)
        self.topics: list[sns.ITopic] = []
        if metrics.alarm_email or metrics.slack_channel_id:
            topic = self._topic()
            self.topics.append(topic)
            if metrics.alarm_email:
                topic.add_subscription(subscriptions.EmailSubscription(metrics.alarm_email))
            if metrics.slack_workspace_id and metrics.slack_channel_id:
                self._slack(topic, metrics.slack_workspace_id, metrics.slack_channel_id)
        if metrics.alarm_topic_arn:
            self.topics.append(sns.Topic.from_topic_arn(self, "OwnTopic", metrics.alarm_topic_arn))

    def _topic(self) -> sns.Topic:
        topic = sns.Topic(self, "Alarms", enforce_ssl=True)
        # A topic with a policy of its own loses the default one, which lets CloudWatch publish.
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}},
            )
        )
        accept(
            topic,
            "CKV_AWS_26",
            reason="Alarms are not secret, and CloudWatch cannot send to a topic encrypted with AWS's key.",
        )
        return topic

    def _slack(self, topic: sns.Topic, workspace: str, channel: str) -> None:
        # It only passes messages on, so its role, which commands in the channel would use, may do nothing.
        role = iam.Role(self, "SlackRole", assumed_by=iam.ServicePrincipal("chatbot.amazonaws.com"))
        chatbot.CfnSlackChannelConfiguration(
            self,
            "Slack",
            configuration_name=f"{cdk.Stack.of(self).stack_name}-alarms",
            iam_role_arn=role.role_arn,
            slack_workspace_id=workspace,
            slack_channel_id=channel,
            sns_topic_arns=[topic.topic_arn],
            guardrail_policies=[f"arn:{cdk.Aws.PARTITION}:iam::aws:policy/AWSDenyAll"],
            logging_level="ERROR",
        )
