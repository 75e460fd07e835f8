"""Services: who has registered, who is asked to join, what they answer; handlers within the process; API keys."""
