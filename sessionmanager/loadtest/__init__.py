"""Load tests that anybody can run: conversations, agents, listeners and bridges against any address of the service.

`plan` and `verdict` are pure; `people` needs locust, `report` needs matplotlib, both from the extra `load`.
"""
