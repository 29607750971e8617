"""Colour spaces of images: ICC profiles, and tags that take their place."""
