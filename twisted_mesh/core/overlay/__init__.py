"""Who is whose neighbour, and how islands find each other."""
