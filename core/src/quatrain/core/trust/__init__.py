"""Who made what: signing keys and the keys this machine trusts."""
