"""What an OpusAgent program's bridges are made of, as far as sessions go."""
