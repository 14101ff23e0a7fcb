"""Messages of both channels and their encoding, with the limits that guard them."""
