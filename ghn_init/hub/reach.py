"""Whether the Hub answers at all, found out within seconds."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request

TIMEOUT = 5.0
"""Seconds. The Hub client's own look-up of a repository waits without limit where no answer comes."""


def answers() -> bool:
    """Whether the Hub (or the mirror named by ``HF_ENDPOINT``) gives any HTTP answer.

    ``False`` without a request where the Hub client is in offline mode.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        # The client may trust other certificates than Python does: let it try.
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False
    return True
