import infra  # noqa: F401  before a test imports aws_cdk, whose runtime it keeps from printing a banner
