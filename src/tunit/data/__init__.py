"""Pictures: find, decode, check, pack, augment and batch them; draw the creatures."""
