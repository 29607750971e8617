"""Metrics, and tables and figures that compare networks."""
