// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Membership} from "./Membership.sol";
import {ObjectsStorage, Record, objectsStorage} from "./Storage.sol";

/// @title Who may do what in a namespace
/// @notice A namespace is owned by the account that created it, until it gives it to another account or to a role, whose
/// holders own it together. The owner may do everything and gives others rights.
abstract contract Namespaces is Membership {
    uint8 public constant KIND_NAMESPACE = 1;
    /// @notice A right: create, change and delete objects.
    uint8 public constant RIGHT_EDIT = 1;
    /// @notice A right: read what is sealed to the namespace's home nodes. These nodes enforce it.
    uint8 public constant RIGHT_VIEW = 2;
    /// @notice A right: apply, beside RIGHT_EDIT, objects that make nodes decide about placements.
    uint8 public constant RIGHT_REQUEST = 4;

    error NamespaceMissing(bytes16 namespace);
    error NotWriter(bytes16 namespace, address account);

    /// @dev The owner decides whether it exists: its slot is the one that every write reads anyway.
    function _namespace(bytes16 namespace) internal view returns (Record storage ns) {
        ns = objectsStorage().records[KIND_NAMESPACE][bytes32(namespace)];
        if (ns.owner == address(0)) revert NamespaceMissing(namespace);
    }

    function _owns(address owner, address account) internal view returns (bool) {
        if (owner == account) return true;
        bytes32 role = objectsStorage().ownerRoles[owner];
        return role != 0 && hasRole(role, account);
    }

    /// @notice The address that stands for a role as an owner.
    function roleAddress(bytes32 role) public pure returns (address) {
        return address(bytes20(keccak256(abi.encode("veil.role", role))));
    }

    function _requireOwner(bytes16 namespace) internal view returns (Record storage ns) {
        ns = _namespace(namespace);
        if (!_owns(ns.owner, msg.sender)) revert NotWriter(namespace, msg.sender);
    }

    /// @dev All of `rights`, by being given them or by ownership.
    function _may(bytes16 namespace, address owner, address account, uint8 rights) internal view returns (bool) {
        if (owner == account) return true;
        ObjectsStorage storage s = objectsStorage();
        return s.rights[namespace][owner][account] & rights == rights || _owns(owner, account);
    }
}
