"""Commands about providers, real and simulated."""
