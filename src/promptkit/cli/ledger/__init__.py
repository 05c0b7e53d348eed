"""Commands that read and maintain the ledger."""
