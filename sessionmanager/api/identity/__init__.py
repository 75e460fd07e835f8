"""Who calls: tokens verified, by a secret or by public keys of an identity provider."""
