"""The deployment on AWS: the settings in tandem.yaml, what follows from them, and the stacks."""

import os

# The first import of aws_cdk starts a Node process.
# On Node 20, which works, it would print an 11-line banner.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
