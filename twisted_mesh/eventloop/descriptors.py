"""How many files and connections this process may have open at a time."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import resource


def allow_descriptors(most: int) -> int | None:
    """Let this process open *most* descriptors, or as many as its host allows.

    A limit that is higher stays.

    :return: how many it may have open now; None if the host does not tell.
    """
    if sys.platform == "win32":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if wanted > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # some systems have another limit, which getrlimit() does not tell
            return soft
    return max(soft, wanted)
