"""What the appliance knows, and does without its language model."""
