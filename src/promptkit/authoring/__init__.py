"""Tools for template authors: new, lint, diff, test and publish."""
