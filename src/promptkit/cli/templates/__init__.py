"""Commands about templates: write, check, test and publish them."""
