"""Amazon Web Services: Bedrock and SageMaker, in the accounts and regions that a run names."""
