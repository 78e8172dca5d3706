// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";
import {Objects} from "./Objects.sol";
import {PlacementLog} from "./PlacementLog.sol";
import {Policy} from "./Policy.sol";

/// @title Veil's registry: what strangers who run a cluster together agree on
/// @notice Objects, membership, the placement log, policy and key epochs, behind a UUPS proxy. Every write is O(1), and
/// every event is in the hash chain of head().
contract VeilRegistry is Objects, PlacementLog, Policy, UUPSUpgradeable {
    bytes32 public constant GUARDIAN = keccak256("GUARDIAN");

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor() {
        _disableInitializers();
    }

    /// @notice Once, through the proxy. `admin` gets every role and hands them on.
    function initialize(address admin) external initializer {
        if (admin == address(0)) revert ZeroValue();
        __AccessControl_init();
        __Pausable_init();
        __EIP712_init("Veil", "1");
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(NODE_ADMIN, admin);
        _grantRole(POLICY_ADMIN, admin);
        _grantRole(KEY_ADMIN, admin);
        _grantRole(GUARDIAN, admin);
    }

    /// @notice Stop all writes. A guardian can do no more than this.
    function pause() external onlyRole(GUARDIAN) {
        _pause();
    }

    function unpause() external onlyRole(DEFAULT_ADMIN_ROLE) {
        _unpause();
    }

    function _authorizeUpgrade(address) internal override onlyRole(DEFAULT_ADMIN_ROLE) {}
}
