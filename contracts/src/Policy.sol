// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Nodes} from "./Nodes.sol";

/// @title Cluster policy and key epochs
abstract contract Policy is Nodes {
    /// @custom:storage-location erc7201:veil.policy
    struct PolicyStorage {
        bytes policy;
        uint64 lastEpoch;
        mapping(uint64 epoch => bytes32 digest) epochs;
        mapping(uint64 epoch => bool) retired;
    }

    bytes32 public constant KEY_ADMIN = keccak256("KEY_ADMIN");
    uint256 public constant POLICY_MAX_BYTES = 4096;
    bytes32 private constant POLICY_SLOT = 0x8ba7ce3ec4942cc6152733599d3900956d977bc7a46f20d902cf234ddf804600;

    event PolicyChanged(uint64 indexed rv, bytes32 indexed digest, address indexed by, bytes policy);
    event EpochPublished(uint64 indexed rv, uint64 indexed epoch, bytes32 indexed digest, bool active);

    error StaleEpoch(uint64 epoch, uint64 last);
    error EpochNotActive(uint64 epoch);

    function _policy() private pure returns (PolicyStorage storage s) {
        assembly {
            s.slot := POLICY_SLOT
        }
    }

    /// @notice The policy's bytes, as every node applies them.
    function getClusterPolicy() external view returns (bytes memory) {
        return _policy().policy;
    }

    /// @notice Replace the policy (at most POLICY_MAX_BYTES).
    function setClusterPolicy(bytes calldata policy) external whenNotPaused onlyRole(POLICY_ADMIN) {
        if (policy.length > POLICY_MAX_BYTES) revert TooLong(policy.length, POLICY_MAX_BYTES);
        _policy().policy = policy;
        _record(PolicyChanged.selector, keccak256(policy), _topic(msg.sender), abi.encode(policy));
    }

    /// @notice A new key epoch: the digest of everything public about it. Epochs overlap until the old one is retired.
    function publishEpoch(uint64 epoch, bytes32 digest) external whenNotPaused onlyRole(KEY_ADMIN) {
        PolicyStorage storage s = _policy();
        if (digest == 0) revert ZeroValue();
        if (epoch <= s.lastEpoch) revert StaleEpoch(epoch, s.lastEpoch);
        s.lastEpoch = epoch;
        s.epochs[epoch] = digest;
        _record(EpochPublished.selector, bytes32(uint256(epoch)), digest, abi.encode(true));
    }

    /// @notice No new round uses this epoch.
    function retireEpoch(uint64 epoch) external whenNotPaused onlyRole(KEY_ADMIN) {
        PolicyStorage storage s = _policy();
        bytes32 digest = s.epochs[epoch];
        if (digest == 0 || s.retired[epoch]) revert EpochNotActive(epoch);
        s.retired[epoch] = true;
        _record(EpochPublished.selector, bytes32(uint256(epoch)), digest, abi.encode(false));
    }

    /// @notice One epoch; digest 0 when it was never published.
    function getEpoch(uint64 epoch) external view returns (bytes32 digest, bool active) {
        digest = _policy().epochs[epoch];
        active = digest != 0 && !_policy().retired[epoch];
    }
}
