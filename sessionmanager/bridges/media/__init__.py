"""Sound as carriers and models send it: formats, G.711, WAV, sample rates; pure, and without a library."""
