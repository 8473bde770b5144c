"""Who may hear and say what, and until when. Decided once, before a stream opens."""
