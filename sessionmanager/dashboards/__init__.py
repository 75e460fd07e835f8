"""Grafana dashboards as code: `python -m sessionmanager.dashboards FOLDER` writes them, a file each."""
