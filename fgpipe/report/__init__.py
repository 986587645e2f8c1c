"""``report.html``: one file that shows how well a model does, and where it fails."""
