"""Commands that change what lies in the tiers, in place of the service or beside it."""
