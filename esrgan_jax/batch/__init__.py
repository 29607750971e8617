"""Files of the upscale command: options, jobs, records of how a result was made, and the report."""
