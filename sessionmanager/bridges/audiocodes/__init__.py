"""AudioCodes VoiceAI Connect: the Bot API over WebSocket (streaming mode)."""
