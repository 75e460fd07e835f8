"""VoiceAI Connect to try a bridge with: refuses what the real one refuses, plays a caller from a recorded call."""
