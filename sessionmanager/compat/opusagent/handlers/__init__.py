"""What a bridge hands the restored conversation to."""
