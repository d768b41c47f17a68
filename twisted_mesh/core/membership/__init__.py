"""Who is a member, and whether it is there."""
