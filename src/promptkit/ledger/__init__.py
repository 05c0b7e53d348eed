"""The ledger: every attempt, token and cent in one database. The only SQL."""
