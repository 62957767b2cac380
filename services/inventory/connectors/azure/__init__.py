"""Microsoft Azure: OpenAI and AI Services accounts, in the subscriptions that the credential sees."""
