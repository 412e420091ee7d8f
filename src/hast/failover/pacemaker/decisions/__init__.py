"""What the agent answers and who may be promoted. No I/O."""
