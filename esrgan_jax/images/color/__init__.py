"""The meaning of colour values: ICC profiles, and tags that replace one."""
