"""What other systems call by their own names: their programs move in by changing imports."""
