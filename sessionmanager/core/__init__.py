"""What sessions are: the ledger, the moves between tiers, and one method per thing a caller may do."""
