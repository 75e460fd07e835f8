"""One file a noun: parse, call the core, render. No rule about sessions lives here."""
