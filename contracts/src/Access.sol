// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Namespaces} from "./Namespaces.sol";
import {ObjectsStorage, Record, objectsStorage} from "./Storage.sol";

/// @title Owners, rights, home nodes and limits of namespaces
abstract contract Access is Namespaces {
    uint256 public constant HOME_PEERS_MAX = 3;

    event AccessChanged(uint64 indexed rv, bytes16 indexed namespace, address indexed account, uint8 rights);
    event NamespaceOwnerChanged(uint64 indexed rv, bytes32 indexed id, address indexed owner, bytes32 role);
    event HomePeersChanged(uint64 indexed rv, bytes16 indexed namespace, address indexed by, bytes32[] peerIDs);
    event DecisionLimitChanged(uint64 indexed rv, bytes16 indexed namespace, address indexed by, uint32 perEpoch);
    event NamespacesRestricted(uint64 indexed rv, bool indexed restricted, address indexed by);

    error UnknownRights(uint8 rights);

    /// @notice Give `account` these rights in `namespace`, a sum of RIGHT_EDIT, RIGHT_VIEW and RIGHT_REQUEST, in place of
    /// those it had; by the owner. A new owner begins with none given.
    function setAccess(bytes16 namespace, address account, uint8 rights) external whenNotPaused {
        if (rights > RIGHT_EDIT | RIGHT_VIEW | RIGHT_REQUEST) revert UnknownRights(rights);
        Record storage ns = _requireOwner(namespace);
        objectsStorage().rights[namespace][ns.owner][account] = rights;
        _record(AccessChanged.selector, bytes32(namespace), _topic(account), abi.encode(rights));
    }

    /// @notice Give a namespace to another account; by its owner.
    function setNamespaceOwner(bytes16 namespace, address owner) external whenNotPaused {
        if (owner == address(0)) revert ZeroValue("owner");
        _hand(namespace, owner, 0);
    }

    /// @notice Give a namespace to everybody who holds `role`; by its owner. Its owner's address is then roleAddress(role).
    function setNamespaceOwnerRole(bytes16 namespace, bytes32 role) external whenNotPaused {
        if (role == 0) revert ZeroValue("role");
        address owner = roleAddress(role);
        objectsStorage().ownerRoles[owner] = role;
        _hand(namespace, owner, role);
    }

    /// @notice The nodes that receive a namespace's status and sealed parts; by its owner. Storage holds the list's digest,
    /// keccak256(abi.encode(peerIDs)); it goes with the namespace.
    function setHomePeers(bytes16 namespace, bytes32[] calldata peerIDs) external whenNotPaused {
        if (peerIDs.length > HOME_PEERS_MAX) revert TooMuch("peerIDs", peerIDs.length, HOME_PEERS_MAX);
        _requireOwner(namespace);
        for (uint256 i = 0; i < peerIDs.length; ++i) _known(peerIDs[i]);
        bytes memory data = abi.encode(peerIDs);
        objectsStorage().homePeers[namespace] = keccak256(data);
        _record(HomePeersChanged.selector, bytes32(namespace), _topic(msg.sender), data);
    }

    /// @notice How many decisions of one key epoch a namespace may use, 0 for no limit but the epoch's own; for namespace 0:
    /// every namespace without a limit of its own. Members of the committee count in their journals, the EVM sees no decision.
    function setDecisionLimit(bytes16 namespace, uint32 perEpoch) external whenNotPaused onlyRole(POLICY_ADMIN) {
        objectsStorage().decisionLimits[namespace] = perEpoch;
        _record(DecisionLimitChanged.selector, bytes32(namespace), _topic(msg.sender), abi.encode(perEpoch));
    }

    /// @notice Whether only holders of REQUESTER create namespaces, and so decide who may request placements at all.
    function setRestricted(bool restricted) external whenNotPaused onlyRole(POLICY_ADMIN) {
        objectsStorage().restricted = restricted;
        _record(NamespacesRestricted.selector, bytes32(uint256(restricted ? 1 : 0)), _topic(msg.sender), "");
    }

    /// @notice What `account` may do in `namespace`: all of it for an owner, nothing where there is no namespace.
    function rightsOf(bytes16 namespace, address account) external view returns (uint8) {
        ObjectsStorage storage s = objectsStorage();
        address owner = s.records[KIND_NAMESPACE][bytes32(namespace)].owner;
        if (owner == address(0)) return 0;
        if (_owns(owner, account)) return RIGHT_EDIT | RIGHT_VIEW | RIGHT_REQUEST;
        return s.rights[namespace][owner][account];
    }

    /// @notice Who owns `namespace`: an account, or a role (0 then for none) and the address that stands for it.
    function ownerOf(bytes16 namespace) external view returns (address owner, bytes32 role) {
        owner = objectsStorage().records[KIND_NAMESPACE][bytes32(namespace)].owner;
        role = objectsStorage().ownerRoles[owner];
    }

    /// @notice The digest of a namespace's home nodes, 0 for none set.
    function homePeersDigest(bytes16 namespace) external view returns (bytes32) {
        return objectsStorage().homePeers[namespace];
    }

    /// @notice The limit that counts for `namespace`: its own, else everybody's, else 0.
    function decisionLimit(bytes16 namespace) external view returns (uint32) {
        uint32 own = objectsStorage().decisionLimits[namespace];
        return own != 0 ? own : objectsStorage().decisionLimits[0];
    }

    /// @notice Whether only holders of REQUESTER create namespaces.
    function isRestricted() external view returns (bool) {
        return objectsStorage().restricted;
    }

    function _hand(bytes16 namespace, address owner, bytes32 role) private {
        _requireOwner(namespace).owner = owner;
        _record(NamespaceOwnerChanged.selector, bytes32(namespace), _topic(owner), abi.encode(role));
    }
}
