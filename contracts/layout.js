// The storage layout of a registry: every namespace's slot and, for each type in it, every member's place. `node layout.js`
// compares with storage-layout.json, because an upgrade that moves anything destroys what every registry holds; `--write`
// after fields were added in a way that Storage.sol allows.
const fs = require('fs')
const path = require('path')
const solc = require('solc')

const FILE = path.join(__dirname, 'storage-layout.json')
const read = (name) => ({ contents: fs.readFileSync(path.join(__dirname, name), 'utf8') })

const input = {
  language: 'Solidity',
  sources: { 'test/Layout.sol': { content: read('test/Layout.sol').contents } },
  settings: { outputSelection: { 'test/Layout.sol': { Layout: ['storageLayout'] } } },
}
const result = JSON.parse(solc.compile(JSON.stringify(input), { import: (name) => read(name) }))
for (const problem of result.errors || []) if (problem.severity === 'error') throw new Error(problem.formattedMessage)
const layout = result.contracts['test/Layout.sol'].Layout.storageLayout

const named = (type) => layout.types[type].label
const slots = {}
for (const [, name, slot] of read('src/Storage.sol').contents.matchAll(/^bytes32 constant (\w+)_SLOT = (0x[0-9a-f]{64});/gm)) slots[name.toLowerCase()] = slot
const types = {}
for (const type of Object.values(layout.types)) {
  if (type.members) types[type.label] = type.members.map((member) => `${member.slot}+${member.offset} ${member.label}: ${named(member.type)}`)
}
const namespaces = Object.fromEntries(layout.storage.map((variable) => [variable.label, { slot: slots[variable.label], type: named(variable.type) }]))
const sorted = Object.fromEntries(Object.entries(types).sort(([a], [b]) => (a < b ? -1 : 1)))
const enums = {}
for (const [, name, values] of read('src/Storage.sol').contents.matchAll(/^enum (\w+) \{([^}]*)\}/gm)) enums[name] = values.split(',').map((value) => value.trim())
const text = JSON.stringify({ namespaces, types: sorted, enums }, null, 1) + '\n'

if (Object.values(namespaces).some((one) => !one.slot)) throw new Error('a namespace without its slot in Storage.sol')
if (process.argv.includes('--write')) fs.writeFileSync(FILE, text)
else if (fs.readFileSync(FILE, 'utf8') !== text) {
  console.error('The storage layout is not that of storage-layout.json. Where a registry is deployed its data would be lost:')
  const before = fs.readFileSync(FILE, 'utf8').split('\n')
  const after = text.split('\n')
  for (const line of before.filter((one) => !after.includes(one))) console.error('- ' + line)
  for (const line of after.filter((one) => !before.includes(one))) console.error('+ ' + line)
  process.exit(1)
} else console.log(`storage layout: ${Object.keys(types).length} types in ${layout.storage.length} namespaces, as in storage-layout.json`)
