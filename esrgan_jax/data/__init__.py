"""From photographs to batches: sources, crops, the Grain pipeline and MATLAB's bicubic."""
