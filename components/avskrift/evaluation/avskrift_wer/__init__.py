"""The folder that ``evaluate.load`` takes; see README.md."""
