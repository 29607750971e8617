"""Picture files, strip by strip: what they hold and what is kept of it."""
