"""The tests of the ground floor: errors, flags, configuration, networks and identities."""
