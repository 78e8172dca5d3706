// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Proxy} from "@openzeppelin/contracts/proxy/Proxy.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";
import {Nodes} from "./Nodes.sol";
import {Objects} from "./Objects.sol";
import {PlacementLog} from "./PlacementLog.sol";
import {Policy} from "./Policy.sol";
import {StakeTerms, placementsStorage, stakesStorage} from "./Storage.sol";

/// @title Veil's registry: what strangers who run a cluster together agree on
/// @notice Objects, membership, the placement log and policy, behind a UUPS proxy. Every write is O(1), and every event is
/// in the hash chain of head(). One contract's code is limited to 24,576 bytes: what it does not know itself (stakes,
/// disputes, key epochs, images, rights in namespaces) it has done by its extension, in its own storage. The extension's
/// address is part of this code, so that both are replaced in one upgrade.
contract VeilRegistry is Nodes, Objects, PlacementLog, Policy, Proxy, UUPSUpgradeable {
    /// @notice May pause, and nothing else.
    bytes32 public constant GUARDIAN = keccak256("GUARDIAN");

    uint32 private constant UNBOND_PERIOD_S = 7 days;
    uint32 private constant RESOLVE_PERIOD_S = 3 days;
    uint128 private constant DISPUTE_BOND = 0.01 ether;

    event RoleChanged(uint64 indexed rv, bytes32 indexed role, address indexed account, bool held, address by);
    event RoleAdminSet(uint64 indexed rv, bytes32 indexed role, bytes32 indexed adminRole, address by);
    event PauseChanged(uint64 indexed rv, bool indexed paused, address indexed by);
    event CodeChanged(uint64 indexed rv, address indexed implementation, address indexed by);

    error PlainEther();

    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address private immutable EXTENSION;

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(address extension_) {
        if (extension_.code.length == 0) revert ZeroValue("extension_");
        EXTENSION = extension_;
        _disableInitializers();
    }

    /// @notice Nobody can send ether but to a function that takes it.
    receive() external payable {
        revert PlainEther();
    }

    /// @notice Once, through the proxy. `admin` gets every role and hands them on. No stake is needed until setStakeTerms.
    function initialize(address admin) external initializer {
        if (admin == address(0)) revert ZeroValue("admin");
        __AccessControl_init();
        __Pausable_init();
        __EIP712_init("Veil", "1");
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(NODE_ADMIN, admin);
        _grantRole(POLICY_ADMIN, admin);
        _grantRole(keccak256("KEY_ADMIN"), admin);
        _grantRole(keccak256("ARBITER"), admin);
        _grantRole(GUARDIAN, admin);
        for (uint256 shard = 0; shard < SHARDS; ++shard) placementsStorage().next[shard] = 1;
        stakesStorage().terms = StakeTerms(0, DISPUTE_BOND, UNBOND_PERIOD_S, RESOLVE_PERIOD_S);
    }

    /// @notice Stop all writes. A guardian can do no more than this.
    function pause() external onlyRole(GUARDIAN) {
        _pause();
    }

    /// @notice Allow writes again.
    function unpause() external onlyRole(DEFAULT_ADMIN_ROLE) {
        _unpause();
    }

    /// @notice Let the holders of `adminRole` grant and revoke `role`: a team that owns namespaces looks after itself.
    function setRoleAdmin(bytes32 role, bytes32 adminRole) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setRoleAdmin(role, adminRole);
    }

    /// @notice Where the functions are that this contract's own code does not have.
    function extension() external view returns (address) {
        return EXTENSION;
    }

    function _implementation() internal view override returns (address) {
        return EXTENSION;
    }

    function _authorizeUpgrade(address code) internal override onlyRole(DEFAULT_ADMIN_ROLE) {
        _record(CodeChanged.selector, _topic(code), _topic(msg.sender), "");
    }

    // What OpenZeppelin keeps is told twice: by its own event, for tools, and by one of the chain, for readers.

    function _grantRole(bytes32 role, address account) internal override returns (bool changed) {
        changed = super._grantRole(role, account);
        if (changed) _roleChanged(role, account, true);
    }

    function _revokeRole(bytes32 role, address account) internal override returns (bool changed) {
        changed = super._revokeRole(role, account);
        if (changed) _roleChanged(role, account, false);
    }

    function _roleChanged(bytes32 role, address account, bool held) private {
        _record(RoleChanged.selector, role, _topic(account), abi.encode(held, msg.sender));
    }

    function _setRoleAdmin(bytes32 role, bytes32 adminRole) internal override {
        super._setRoleAdmin(role, adminRole);
        _record(RoleAdminSet.selector, role, adminRole, abi.encode(msg.sender));
    }

    function _pause() internal override {
        super._pause();
        _pauseChanged(1);
    }

    function _unpause() internal override {
        super._unpause();
        _pauseChanged(0);
    }

    function _pauseChanged(uint256 paused_) private {
        _record(PauseChanged.selector, bytes32(paused_), _topic(msg.sender), "");
    }
}
