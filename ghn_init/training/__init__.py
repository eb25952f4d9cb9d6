"""Training and evaluating GHNs on random architectures."""
