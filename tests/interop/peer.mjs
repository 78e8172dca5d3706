// A js-libp2p peer that does what its standard input says, one JSON command a line, and answers each with one JSON line.
import { createInterface } from 'node:readline'
import { createLibp2p } from 'libp2p'
import { tcp } from '@libp2p/tcp'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { multiaddr } from '@multiformats/multiaddr'

const ECHO = '/interop/echo/1'

const node = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping() }
})

await node.handle(ECHO, async stream => {
  for await (const chunk of stream) stream.send(chunk.subarray())
})

async function readBytes (stream, count) {
  const parts = []
  let size = 0
  for await (const chunk of stream) {
    parts.push(Buffer.from(chunk.subarray()))
    size += chunk.byteLength
    if (size >= count) break
  }
  return Buffer.concat(parts)
}

const commands = {
  start: async () => ({ peer: node.peerId.toString(), addresses: node.getMultiaddrs().map(String) }),
  dial: async ({ address }) => {
    const connection = await node.dial(multiaddr(address))
    return { peer: connection.remotePeer.toString(), encryption: connection.encryption, multiplexer: connection.multiplexer }
  },
  identify: async ({ address }) => {
    const found = await node.services.identify.identify(await node.dial(multiaddr(address)))
    return { protocols: found.protocols, agent: found.agentVersion }
  },
  ping: async ({ address }) => ({ ms: await node.services.ping.ping(multiaddr(address)) }),
  exchange: async ({ address, protocol, hex, count }) => {
    const stream = await node.dialProtocol(multiaddr(address), protocol)
    stream.send(Buffer.from(hex, 'hex'))
    const reply = await readBytes(stream, count)
    stream.abort(new Error('done'))
    return { hex: reply.toString('hex') }
  },
  stop: async () => { await node.stop(); return {} }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...rest } = JSON.parse(line)
  try {
    console.log(JSON.stringify(await commands[command](rest)))
  } catch (error) {
    console.log(JSON.stringify({ error: `${error.name}: ${error.message}` }))
  }
  if (command === 'stop') process.exit(0)
}
