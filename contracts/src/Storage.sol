// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

// What the registry stores, all of it, in ERC-7201 namespaces: the registry and its extension read and write the same. A field
// may be added at the end of a struct that is no value of a mapping, and nothing else may change (`make test-contracts`
// compares with storage-layout.json). keccak256(abi.encode(uint256(keccak256("veil.NAME")) - 1)) & ~bytes32(uint256(0xff))
bytes32 constant HEAD_SLOT = 0xbdc66f2a2d186c6f57439af8dade3557e7e3e0c2ef26cb5b87592dc20d11c800;
bytes32 constant NODES_SLOT = 0xf027762248745d45f5e86aead488aa0d5b6e5d2696136255b8d667f362ff1500;
bytes32 constant STAKES_SLOT = 0xd4f461914fc8034cab0184611fbada3f03da025437a2f4ddde6baa0776f54600;
bytes32 constant OBJECTS_SLOT = 0x248990358963ae0c382265a3773e606002cc13e2bf0e05d295c69e7c0272b100;
bytes32 constant PLACEMENTS_SLOT = 0x01ddfe31bb0b8617b499ceda172a951f553e83529a58358194dccb379c539f00;
bytes32 constant DISPUTES_SLOT = 0x1c4641b9d8c9086c62d7eef7e26f786325cfa9bb138393bf19c83788eaab7700;
bytes32 constant POLICY_SLOT = 0x8ba7ce3ec4942cc6152733599d3900956d977bc7a46f20d902cf234ddf804600;
bytes32 constant EPOCHS_SLOT = 0xf9f88847ab6f7dfd4a67f1322c96ce875b0bf7cd8a707d596a1e6362dea4c800;

enum NodeStatus {
    None,
    Pending,
    Active,
    Cordoned,
    Leaving,
    Gone
}

enum EpochStatus {
    None,
    Prepared,
    Active,
    Retired
}

enum DisputeStatus {
    None,
    Open,
    Upheld,
    Rejected,
    Lapsed
}

struct Head {
    uint64 rv;
    bytes24 acc;
}

/// @dev One slot. `floor`: a down mark needs a higher incarnation. It outlives the registration, so that old signatures
/// are never good again.
struct Node {
    address operator;
    NodeStatus status;
    bool proven;
    bool down;
    uint64 floor;
}

struct NodesStorage {
    mapping(bytes32 peerID => Node) nodes;
    mapping(address operator => uint32) membersOf;
    uint32 members;
    uint8 downSigners;
    mapping(bytes32 peerID => bytes32 digest) labels;
}

/// @dev One slot, of a node. `unbondAt`: from when its stake may go, in seconds; counts while it is Leaving. `disputes`: the
/// open ones against it, which hold it back as well.
struct Bond {
    uint128 amount;
    uint64 unbondAt;
    uint32 disputes;
}

/// @dev Amounts in wei, periods in seconds.
struct StakeTerms {
    uint128 minStake;
    uint128 disputeBond;
    uint32 unbondPeriod;
    uint32 resolvePeriod;
}

/// @dev `credits`: what each account may withdraw. `pool`: what was forfeited.
struct StakesStorage {
    mapping(bytes32 peerID => Bond) bonds;
    mapping(address account => uint256) credits;
    uint256 pool;
    StakeTerms terms;
}

/// @dev Two slots; owner 0 means that the object does not exist, its generation still counts. `objects`: live objects
/// inside, of a Namespace.
struct Record {
    bytes32 digest;
    address owner;
    uint48 generation;
    uint16 finalizers;
    bool deleting;
    uint24 objects;
}

/// @dev Rights are kept under the owner who gave them: a namespace that somebody else creates anew or takes over has none.
/// A role that owns namespaces is known by an address that is a hash of it, which no account has.
struct ObjectsStorage {
    mapping(uint8 kind => mapping(bytes32 id => Record)) records;
    mapping(bytes16 namespace => mapping(address owner => mapping(address account => uint8))) rights;
    mapping(address owner => bytes32 role) ownerRoles;
    mapping(bytes16 namespace => bytes32 digest) homePeers;
    mapping(bytes16 namespace => uint32) decisionLimits;
    bool restricted;
}

uint8 constant SHARD_COUNT = 16;

/// @dev `next`: the sequence that each shard's log takes next. Never 0, so that no append pays for a fresh slot here.
struct PlacementsStorage {
    uint64[SHARD_COUNT] next;
    mapping(uint8 shard => mapping(uint64 seq => bytes32 root)) roots;
    mapping(bytes32 assignmentHash => address by) anchors;
}

/// @dev `bond` in wei; it goes back to `by` unless the dispute is rejected. `deadline` in seconds.
struct Dispute {
    bytes32 accused;
    address by;
    uint64 deadline;
    DisputeStatus status;
    uint128 bond;
}

struct DisputesStorage {
    mapping(bytes32 id => Dispute) disputes;
}

struct PolicyStorage {
    bytes policy;
    bytes32 imageRoot;
    mapping(bytes32 name => bytes32 manifest) images;
}

/// @dev Digests of an epoch's public parts. `size`: committee members; `threshold`: how many of them decrypt.
struct EpochParts {
    bytes32 publicKey;
    bytes32 evaluationKeys;
    bytes32 circuits;
    bytes32 committee;
    uint16 size;
    uint16 threshold;
}

/// @dev `older`, `newer`: the neighbours among the epochs that are not retired, 0 for none.
struct Epoch {
    bytes32 digest;
    EpochParts parts;
    uint64 older;
    uint64 newer;
    bool retired;
}

/// @dev `active` is the oldest epoch that is not retired; all below `floor` are retired.
struct EpochsStorage {
    mapping(uint64 epoch => Epoch) epochs;
    uint64 last;
    uint64 active;
    uint64 newest;
    uint64 floor;
}

function headStorage() pure returns (Head storage s) {
    assembly {
        s.slot := HEAD_SLOT
    }
}

function nodesStorage() pure returns (NodesStorage storage s) {
    assembly {
        s.slot := NODES_SLOT
    }
}

function stakesStorage() pure returns (StakesStorage storage s) {
    assembly {
        s.slot := STAKES_SLOT
    }
}

function objectsStorage() pure returns (ObjectsStorage storage s) {
    assembly {
        s.slot := OBJECTS_SLOT
    }
}

function placementsStorage() pure returns (PlacementsStorage storage s) {
    assembly {
        s.slot := PLACEMENTS_SLOT
    }
}

function disputesStorage() pure returns (DisputesStorage storage s) {
    assembly {
        s.slot := DISPUTES_SLOT
    }
}

function policyStorage() pure returns (PolicyStorage storage s) {
    assembly {
        s.slot := POLICY_SLOT
    }
}

function epochsStorage() pure returns (EpochsStorage storage s) {
    assembly {
        s.slot := EPOCHS_SLOT
    }
}
