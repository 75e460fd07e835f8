"""What a conversation's state is to an OpusAgent program."""
