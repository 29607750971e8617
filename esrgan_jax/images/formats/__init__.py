"""Parsers of single file formats, for what libvips does not report."""
