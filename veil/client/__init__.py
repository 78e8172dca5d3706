"""The API's client: typed requests, two transports (asyncio, blocking), the kubeconfig.

Nothing is imported here: the command line must not pay for aiohttp.
"""
