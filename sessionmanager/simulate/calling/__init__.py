"""What all simulated carriers share: a caller with a script, who hears in real time."""
