"""What a tenant may choose and what bounds it: settings, quotas, keys of requests that belong to no session."""
