// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Namespaces} from "./Namespaces.sol";
import {Record, objectsStorage} from "./Storage.sol";

/// @title The generic object path
/// @notice One way for all namespaced kinds: the envelope is in the event, storage holds its digest, owner and generation.
/// An id is 16 bytes of its namespace and 16 of its name; a Namespace is the id with an empty lower half, and whoever
/// creates it owns it. A generation is never used twice: a deleted object leaves it behind, a new one goes on from there.
abstract contract Objects is Namespaces {
    uint8 public constant KIND_GIT_SOURCE = 5;
    uint8 public constant KIND_LAST = 6;
    /// @notice Kinds up to here and above KIND_LAST (Node, ClusterPolicy, KeyEpoch) have functions of their own.
    uint8 public constant KIND_OWN_LAST = 9;
    uint256 public constant ENVELOPE_MAX_BYTES = 512;
    /// @notice May create namespaces while that is restricted.
    bytes32 public constant REQUESTER = keccak256("REQUESTER");

    event ObjectApplied(
        uint64 indexed rv, bytes32 indexed id, uint8 indexed kind, uint48 generation, address owner, bytes envelope
    );
    event ObjectDeleting(
        uint64 indexed rv, bytes32 indexed id, uint8 indexed kind, uint48 generation, address owner, uint16 finalizers
    );
    event ObjectDeleted(uint64 indexed rv, bytes32 indexed id, uint8 indexed kind, uint48 generation);
    event FinalizersChanged(uint64 indexed rv, bytes32 indexed id, uint8 indexed kind, uint16 finalizers);

    /// @dev `expected` is what the caller believed, 0 for "does not exist"; `actual` is what is so.
    error StaleGeneration(bytes32 id, uint48 expected, uint48 actual);
    error UnknownKind(uint8 kind);
    error KindHasOwnFunctions(uint8 kind);
    error UnknownObject(uint8 kind, bytes32 id);
    error NotNamespaceId(bytes32 id);
    error NamespaceNotEmpty(bytes16 namespace, uint24 objects);
    error BeingDeleted(uint8 kind, bytes32 id);
    error NotRequester(address account);

    /// @notice Create (expectedGeneration 0) or update.
    /// @param finalizers bits that hold a later delete back until each is removed
    /// @return generation the new one
    function applyObject(uint8 kind, bytes32 id, uint48 expectedGeneration, bytes calldata envelope, uint16 finalizers)
        external
        whenNotPaused
        returns (uint48 generation)
    {
        if (kind == 0 || kind > KIND_OWN_LAST) revert UnknownKind(kind);
        if (kind > KIND_LAST) revert KindHasOwnFunctions(kind);
        if (envelope.length > ENVELOPE_MAX_BYTES) revert TooMuch("envelope", envelope.length, ENVELOPE_MAX_BYTES);
        Record storage r = objectsStorage().records[kind][id];
        address owner = r.owner;
        bool exists = owner != address(0);
        uint48 last = r.generation;
        if (!exists && kind == KIND_NAMESPACE) {
            _requireNewNamespace(id);
        } else {
            Record storage ns = _requireWriter(kind, id);
            if (!exists) _enter(ns, id);
        }
        if ((exists ? last : 0) != expectedGeneration) revert StaleGeneration(id, expectedGeneration, exists ? last : 0);
        if (exists && r.deleting) revert BeingDeleted(kind, id);
        if (!exists) {
            owner = msg.sender;
            r.owner = owner;
        }
        generation = last + 1;
        r.generation = generation;
        r.finalizers = finalizers;
        r.digest = keccak256(envelope);
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

    /// @notice One object; owner 0 when there is none (its generation still counts).
    function getObject(uint8 kind, bytes32 id) external view returns (Record memory) {
        return objectsStorage().records[kind][id];
    }

    /// @dev The Namespace itself is its owner's; other kinds take RIGHT_EDIT, and RIGHT_REQUEST those that nodes place.
    function _requireWriter(uint8 kind, bytes32 id) private view returns (Record storage ns) {
        bytes16 namespace = bytes16(id);
        if (kind == KIND_NAMESPACE) return _requireOwner(namespace);
        ns = _namespace(namespace);
        uint8 rights = kind == KIND_GIT_SOURCE ? RIGHT_EDIT : RIGHT_EDIT | RIGHT_REQUEST;
        if (!_may(namespace, ns.owner, msg.sender, rights)) revert NotWriter(namespace, msg.sender);
    }

    function _requireNewNamespace(bytes32 id) private view {
        if (id << 128 != 0) revert NotNamespaceId(id);
        if (objectsStorage().restricted && !hasRole(REQUESTER, msg.sender)) revert NotRequester(msg.sender);
    }

    function _enter(Record storage ns, bytes32 id) private {
        if (ns.deleting) revert BeingDeleted(KIND_NAMESPACE, bytes32(bytes16(id)));
        ns.objects += 1;
    }

    function _purge(uint8 kind, bytes32 id, Record storage r) private {
        if (kind == KIND_NAMESPACE) delete objectsStorage().homePeers[bytes16(id)];
        else _namespace(bytes16(id)).objects -= 1;
        r.digest = 0;
        r.owner = address(0);
        r.finalizers = 0;
        r.deleting = false;
        _record(ObjectDeleted.selector, id, bytes32(uint256(kind)), abi.encode(r.generation));
    }

    function _existing(uint8 kind, bytes32 id) private view returns (Record storage r) {
        r = objectsStorage().records[kind][id];
        if (r.owner == address(0)) revert UnknownObject(kind, id);
    }
}
