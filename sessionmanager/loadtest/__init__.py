"""Load tests that anybody can run: conversations, agents, listeners and bridges against any address of the service.

`plan`, `addresses`, `kept`, `samples` and `verdict` are pure; `person` and `people` need locust, `report` needs
matplotlib, both from the extra `load`.
"""
