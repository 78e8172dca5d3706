// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Nodes} from "./Nodes.sol";

/// @title The generic object path
/// @notice One way for all namespaced kinds: the envelope is in the event, storage holds its digest, owner and generation.
/// An id is 16 bytes of its namespace and 16 of its name; a Namespace is the id with an empty lower half, and whoever
/// creates it owns it. A generation is never used twice: a deleted object leaves it behind, a new one goes on from there.
abstract contract Objects is Nodes {
    /// @dev Two slots; digest 0 means that the object does not exist. `objects`: live objects inside, of a Namespace.
    struct Record {
        bytes32 digest;
        address owner;
        uint48 generation;
        uint16 finalizers;
        bool deleting;
        uint24 objects;
    }

    /// @dev Editors are kept under the owner who named them: a namespace that somebody else creates anew has none.
    /// @custom:storage-location erc7201:veil.objects
    struct ObjectsStorage {
        mapping(uint8 kind => mapping(bytes32 id => Record)) records;
        mapping(bytes16 namespace => mapping(address owner => mapping(address account => bool))) editors;
    }

    uint8 public constant KIND_NAMESPACE = 1;
    uint8 public constant KIND_LAST = 6;
    uint256 public constant ENVELOPE_MAX_BYTES = 512;
    bytes32 private constant OBJECTS_SLOT = 0x248990358963ae0c382265a3773e606002cc13e2bf0e05d295c69e7c0272b100;

    event ObjectApplied(
        uint64 indexed rv, bytes32 indexed id, uint8 indexed kind, uint48 generation, address owner, bytes envelope
    );
    event ObjectDeleting(
        uint64 indexed rv, bytes32 indexed id, uint8 indexed kind, uint48 generation, address owner, uint16 finalizers
    );
    event ObjectDeleted(uint64 indexed rv, bytes32 indexed id, uint8 indexed kind, uint48 generation);
    event FinalizersChanged(uint64 indexed rv, bytes32 indexed id, uint8 indexed kind, uint16 finalizers);
    event EditorChanged(uint64 indexed rv, bytes16 indexed namespace, address indexed account, bool allowed);

    /// @dev `expected` is what the caller believed, 0 for "does not exist"; `actual` is what is so.
    error StaleGeneration(bytes32 id, uint48 expected, uint48 actual);
    error UnknownKind(uint8 kind);
    error UnknownObject(uint8 kind, bytes32 id);
    error NotNamespaceId(bytes32 id);
    error NamespaceMissing(bytes16 namespace);
    error NamespaceNotEmpty(bytes16 namespace, uint24 objects);
    error NotWriter(bytes16 namespace, address account);
    error BeingDeleted(uint8 kind, bytes32 id);

    function _objects() private pure returns (ObjectsStorage storage s) {
        assembly {
            s.slot := OBJECTS_SLOT
        }
    }

    /// @notice Create (expectedGeneration 0) or update.
    /// @param finalizers bits that hold a later delete back until each is removed
    /// @return generation the new one
    function applyObject(uint8 kind, bytes32 id, uint48 expectedGeneration, bytes calldata envelope, uint16 finalizers)
        external
        whenNotPaused
        returns (uint48 generation)
    {
        if (kind == 0 || kind > KIND_LAST) revert UnknownKind(kind);
        if (envelope.length > ENVELOPE_MAX_BYTES) revert TooLong(envelope.length, ENVELOPE_MAX_BYTES);
        Record storage r = _objects().records[kind][id];
        bool exists = r.digest != 0;
        uint48 actual = exists ? r.generation : 0;
        if (kind != KIND_NAMESPACE) {
            Record storage ns = _requireWriter(kind, id);
            if (!exists) _enter(ns, id);
        } else if (exists) {
            _requireWriter(kind, id);
        } else if (id << 128 != 0) {
            revert NotNamespaceId(id);
        }
        if (actual != expectedGeneration) revert StaleGeneration(id, expectedGeneration, actual);
        if (exists && r.deleting) revert BeingDeleted(kind, id);
        address owner = exists ? r.owner : msg.sender;
        generation = r.generation + 1;
        r.digest = keccak256(envelope);
        r.owner = owner;
        r.generation = generation;
        r.finalizers = finalizers;
        _record(ObjectApplied.selector, id, bytes32(uint256(kind)), abi.encode(generation, owner, envelope));
    }

    /// @notice Delete, or mark as being deleted while finalizers hold it. A Namespace must be empty.
    function deleteObject(uint8 kind, bytes32 id, uint48 expectedGeneration) external whenNotPaused {
        Record storage r = _existing(kind, id);
        _requireWriter(kind, id);
        if (r.generation != expectedGeneration) revert StaleGeneration(id, expectedGeneration, r.generation);
        if (r.deleting) revert BeingDeleted(kind, id);
        if (r.objects != 0) revert NamespaceNotEmpty(bytes16(id), r.objects);
        if (r.finalizers == 0) {
            _purge(kind, id, r);
            return;
        }
        r.deleting = true;
        r.generation += 1;
        bytes memory data = abi.encode(r.generation, r.owner, r.finalizers);
        _record(ObjectDeleting.selector, id, bytes32(uint256(kind)), data);
    }

    /// @notice Remove the finalizers of `mask`; the last one of an object being deleted deletes it. By the namespace's
    /// writers and by the operators of members, whose nodes do the cleaning up.
    function removeFinalizer(uint8 kind, bytes32 id, uint16 mask) external whenNotPaused {
        Record storage r = _existing(kind, id);
        if (!_isOperator(msg.sender)) _requireWriter(kind, id);
        uint16 left = r.finalizers & ~mask;
        if (left == 0 && r.deleting) {
            _purge(kind, id, r);
            return;
        }
        r.finalizers = left;
        _record(FinalizersChanged.selector, id, bytes32(uint256(kind)), abi.encode(left));
    }

    /// @notice Let `account` write in `namespace`, or no longer; by its owner.
    function setEditor(bytes16 namespace, address account, bool allowed) external whenNotPaused {
        Record storage ns = _namespace(namespace);
        if (ns.owner != msg.sender) revert NotWriter(namespace, msg.sender);
        _objects().editors[namespace][msg.sender][account] = allowed;
        _record(EditorChanged.selector, bytes32(namespace), _topic(account), abi.encode(allowed));
    }

    /// @notice One object; digest 0 when there is none (its generation still counts).
    function getObject(uint8 kind, bytes32 id) external view returns (Record memory) {
        return _objects().records[kind][id];
    }

    /// @notice Whether `account` may write in `namespace`, as its owner or one of its editors.
    function isWriter(bytes16 namespace, address account) public view returns (bool) {
        Record storage ns = _objects().records[KIND_NAMESPACE][bytes32(namespace)];
        if (ns.digest == 0) return false;
        return ns.owner == account || _objects().editors[namespace][ns.owner][account];
    }

    function _requireWriter(uint8 kind, bytes32 id) private view returns (Record storage ns) {
        bytes16 namespace = bytes16(id);
        ns = _namespace(namespace);
        address owner = ns.owner;
        if (owner == msg.sender) return ns;
        if (kind == KIND_NAMESPACE || !_objects().editors[namespace][owner][msg.sender]) {
            revert NotWriter(namespace, msg.sender);
        }
    }

    function _enter(Record storage ns, bytes32 id) private {
        if (ns.deleting) revert BeingDeleted(KIND_NAMESPACE, bytes32(bytes16(id)));
        ns.objects += 1;
    }

    function _purge(uint8 kind, bytes32 id, Record storage r) private {
        if (kind != KIND_NAMESPACE) _namespace(bytes16(id)).objects -= 1;
        r.digest = 0;
        r.owner = address(0);
        r.finalizers = 0;
        r.deleting = false;
        _record(ObjectDeleted.selector, id, bytes32(uint256(kind)), abi.encode(r.generation));
    }

    function _namespace(bytes16 namespace) private view returns (Record storage ns) {
        ns = _objects().records[KIND_NAMESPACE][bytes32(namespace)];
        if (ns.digest == 0) revert NamespaceMissing(namespace);
    }

    function _existing(uint8 kind, bytes32 id) private view returns (Record storage r) {
        r = _objects().records[kind][id];
        if (r.digest == 0) revert UnknownObject(kind, id);
    }
}
