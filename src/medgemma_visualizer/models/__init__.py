"""Who answers, and how to look inside: loading, asking, and tracing vision-language models."""
