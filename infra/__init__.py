"""The deployment on AWS: what tandem.yaml says, what follows from it, and the stacks built from it."""

import os

# The first import of aws_cdk starts a Node process.
# On Node 20, which works, it would print a banner of 11 lines.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
