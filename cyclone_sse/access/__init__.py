"""What clients and publishers may do, and until when. Decided once, before a stream opens."""
