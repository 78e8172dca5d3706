"""The registry: its client, its events, a development chain.

web3 brings py_ecc along, which raises the interpreter's recursion limit to 100,000. With that, nested input that a decoder
would refuse (JSON of 100,000 brackets in a request) overflows the C stack and ends the process. So whoever uses the chain
imports web3 here first, and gets the limit back as it was.
"""

import sys

_limit = sys.getrecursionlimit()
import web3  # noqa: E402, F401 - see above

sys.setrecursionlimit(_limit)
