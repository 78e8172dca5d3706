// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Membership} from "./Membership.sol";
import {policyStorage} from "./Storage.sol";

/// @title The cluster's policy
abstract contract Policy is Membership {
    uint256 public constant POLICY_MAX_BYTES = 4096;

    event PolicyChanged(uint64 indexed rv, bytes32 indexed digest, address indexed by, bytes policy);

    /// @notice The policy's bytes, as every node applies them.
    function getClusterPolicy() external view returns (bytes memory) {
        return policyStorage().policy;
    }

    /// @notice Replace the policy (at most POLICY_MAX_BYTES).
    function setClusterPolicy(bytes calldata policy) external whenNotPaused onlyRole(POLICY_ADMIN) {
        if (policy.length > POLICY_MAX_BYTES) revert TooMuch("policy", policy.length, POLICY_MAX_BYTES);
        policyStorage().policy = policy;
        _record(PolicyChanged.selector, keccak256(policy), _topic(msg.sender), abi.encode(policy));
    }
}
