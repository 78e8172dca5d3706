"""The mesh: who is alive, bytes to peers, contents by digest.

:class:`veil.mesh.ports.Mesh` is what the rest of Veil uses; :class:`veil.mesh.client.LibP2PMesh` is it over libp2p,
:class:`veil.mesh.fake.FakeNetwork` hands out ones for tests.
"""
