"""The contract: the OpenAPI document made from the route table, its page to read, and the routes of both."""
