"""Pictures: find, decode, check, pack, augment, batch; and the procedural creatures."""
