"""Commands that make texts, or prepare to."""
