"""Twilio to try a bridge with: signs, follows TwiML, refuses what the real one refuses, plays a caller."""
