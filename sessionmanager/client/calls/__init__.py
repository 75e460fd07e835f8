"""One method for each route of the service, one file a noun."""
