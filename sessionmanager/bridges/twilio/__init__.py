"""Twilio: Media Streams and ConversationRelay over WebSocket, and the webhooks around them."""
