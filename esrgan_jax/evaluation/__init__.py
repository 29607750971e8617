"""Metrics of images, and the tables and figures that compare networks."""
