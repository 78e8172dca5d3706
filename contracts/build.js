// Compiles contracts/src with npm's solc into contracts/artifacts, byte for byte the same on every machine: no metadata
// hash, no CBOR tail, a fixed EVM version, sources named by their path inside contracts/, keys in a fixed order.
// `node build.js --out DIR` writes elsewhere (a test rebuilds and compares).
const fs = require('fs')
const path = require('path')
const solc = require('solc')

const ROOT = __dirname
const EVM_VERSION = 'cancun'
const CODE_MAX_BYTES = 24576
const ARTIFACTS = {
  VeilRegistry: 'src/VeilRegistry.sol',
  VeilRegistryExtension: 'src/VeilRegistryExtension.sol',
  ERC1967Proxy: '@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol',
  TimelockController: '@openzeppelin/contracts/governance/TimelockController.sol',
}

const flag = process.argv.indexOf('--out')
const out = flag > 0 ? path.resolve(process.argv[flag + 1]) : path.join(ROOT, 'artifacts')

function read(name) {
  const base = name.startsWith('@') ? path.join(ROOT, 'node_modules') : ROOT
  return fs.readFileSync(path.join(base, name), 'utf8')
}

const names = fs.readdirSync(path.join(ROOT, 'src')).filter((file) => file.endsWith('.sol')).sort()
const input = {
  language: 'Solidity',
  sources: Object.fromEntries(names.map((file) => ['src/' + file, { content: read('src/' + file) }])),
  settings: {
    evmVersion: EVM_VERSION,
    optimizer: { enabled: true, runs: 200 },
    metadata: { bytecodeHash: 'none', appendCBOR: false },
    outputSelection: { '*': { '*': ['abi', 'userdoc', 'devdoc', 'evm.bytecode.object', 'evm.deployedBytecode.object'] } },
  },
}

const resolve = (name) => {
  try {
    return { contents: read(name) }
  } catch (error) {
    return { error: String(error) }
  }
}

const result = JSON.parse(solc.compile(JSON.stringify(input), { import: resolve }))
for (const problem of result.errors || []) console.error(problem.formattedMessage)
if ((result.errors || []).some((problem) => problem.severity === 'error' || problem.sourceLocation?.file?.startsWith('src/'))) process.exit(1)

// What a registry answers to: its own functions and, behind its fallback, those of its extension.
function reachable(abi) {
  const key = (item) => `${item.type} ${item.name} ${(item.inputs || []).map((part) => part.type)}`
  const known = new Set(abi.map(key))
  return [...abi, ...result.contracts['src/VeilRegistryExtension.sol'].VeilRegistryExtension.abi.filter((item) => !known.has(key(item)))]
}

// What the sources say of each function, for docs/reference/contract.md.
function natspec() {
  const parts = [result.contracts['src/VeilRegistryExtension.sol'].VeilRegistryExtension, result.contracts['src/VeilRegistry.sol'].VeilRegistry]
  const said = {}
  for (const part of parts) {
    for (const [signature, { notice }] of Object.entries(part.userdoc.methods || {})) {
      const params = Object.entries((part.devdoc.methods[signature] || {}).params || {})
      said[signature] = [notice, ...params.map(([name, text]) => `\`${name}\`: ${text}.`)].join(' ')
    }
  }
  return Object.fromEntries(Object.entries(said).sort(([a], [b]) => (a < b ? -1 : 1)))
}

fs.mkdirSync(out, { recursive: true })
for (const [name, source] of Object.entries(ARTIFACTS)) {
  const contract = result.contracts[source][name]
  const deployed = contract.evm.deployedBytecode.object
  if (deployed.length / 2 > CODE_MAX_BYTES) throw new Error(`${name} has ${deployed.length / 2} bytes, a chain takes ${CODE_MAX_BYTES}`)
  const artifact = { contractName: name, compiler: solc.version(), evmVersion: EVM_VERSION, abi: name === 'VeilRegistry' ? reachable(contract.abi) : contract.abi, bytecode: '0x' + contract.evm.bytecode.object }
  if (name === 'VeilRegistry') artifact.natspec = natspec()
  fs.writeFileSync(path.join(out, name + '.json'), JSON.stringify(artifact, null, 1) + '\n')
  console.log(`${name}: ${deployed.length / 2} bytes deployed (the limit is ${CODE_MAX_BYTES})`)
}
