// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {PausableUpgradeable} from "@openzeppelin/contracts-upgradeable/utils/PausableUpgradeable.sol";
import {VeilRegistry} from "../src/VeilRegistry.sol";
import {VeilRegistryExtension} from "../src/VeilRegistryExtension.sol";
import {Fixture, VM, Vm} from "./Fixture.sol";

contract LaterRegistry is VeilRegistry {
    constructor(address extension_) VeilRegistry(extension_) {}

    function release() external pure returns (uint256) {
        return 2;
    }
}

/// @dev A cluster that strangers share: a Timelock holds the roles of administrators, a guardian may pause.
contract GovernanceTest is Fixture {
    TimelockController private timelock;
    address private constant PROPOSER = address(0x11);
    address private constant GUARDIAN = address(0x12);
    uint256 private constant DELAY_S = 2 days;

    function setUp() public {
        VM.warp(1_000_000);
        deploy(address(this));
        address[] memory proposers = new address[](1);
        proposers[0] = PROPOSER;
        timelock = new TimelockController(DELAY_S, proposers, new address[](1), address(0));
        bytes32[5] memory roles =
            [registry.NODE_ADMIN(), registry.POLICY_ADMIN(), extension.KEY_ADMIN(), extension.ARBITER(), bytes32(0)];
        registry.grantRole(registry.GUARDIAN(), GUARDIAN);
        registry.renounceRole(registry.GUARDIAN(), address(this));
        for (uint256 i = 0; i < roles.length; ++i) {
            registry.grantRole(roles[i], address(timelock));
            registry.renounceRole(roles[i], address(this));
        }
    }

    function _through(bytes memory call) private {
        VM.prank(PROPOSER);
        timelock.schedule(address(registry), 0, call, 0, 0, DELAY_S);
        (bool early,) = address(timelock).call(abi.encodeCall(timelock.execute, (address(registry), 0, call, 0, 0)));
        assert(!early);
        VM.warp(block.timestamp + DELAY_S);
        timelock.execute(address(registry), 0, call, 0, 0);
    }

    function test_an_upgrade_goes_through_the_timelock_and_keeps_everything() public {
        VM.prank(GUARDIAN);
        registry.applyObject(1, SPACE_ID, 0, "space", 0);
        (uint64 rv, bytes24 acc) = registry.head();
        VeilRegistryExtension other = new VeilRegistryExtension();
        LaterRegistry code = new LaterRegistry(address(other));
        VM.expectPartialRevert(IAccessControl.AccessControlUnauthorizedAccount.selector);
        registry.upgradeToAndCall(address(code), "");
        _through(abi.encodeCall(registry.upgradeToAndCall, (address(code), "")));
        assert(LaterRegistry(payable(address(registry))).release() == 2 && registry.extension() == address(other));
        (uint64 rvAfter, bytes24 accAfter) = registry.head();
        assert(rvAfter == rv + 1 && accAfter != acc);
        assert(registry.getObject(1, SPACE_ID).digest == keccak256("space"));
        VM.prank(GUARDIAN);
        extension.setAccess(SPACE, PROPOSER, 1);
    }

    function test_a_guardian_pauses_and_does_nothing_else() public {
        VM.startPrank(GUARDIAN);
        registry.pause();
        VM.expectRevert(PausableUpgradeable.EnforcedPause.selector);
        registry.registerNode("peer", GUARDIAN);
        bytes4 missing = IAccessControl.AccessControlUnauthorizedAccount.selector;
        VM.expectPartialRevert(missing);
        registry.unpause();
        VM.expectPartialRevert(missing);
        registry.upgradeToAndCall(address(this), "");
        bytes32 role = registry.NODE_ADMIN();
        VM.expectPartialRevert(missing);
        registry.grantRole(role, GUARDIAN);
        VM.stopPrank();
        _through(abi.encodeCall(registry.unpause, ()));
        VM.startPrank(GUARDIAN);
        registry.registerNode("peer", GUARDIAN);
        VM.expectPartialRevert(missing);
        registry.approveNode("peer");
        VM.expectPartialRevert(missing);
        registry.setClusterPolicy("policy");
        VM.expectPartialRevert(missing);
        extension.slash("peer", 1, "");
        VM.expectPartialRevert(missing);
        extension.payPool(GUARDIAN, 0);
        VM.stopPrank();
    }

    function test_roles_are_changed_and_the_policy_set_through_the_timelock_while_paused_or_not() public {
        VM.prank(GUARDIAN);
        registry.pause();
        _through(abi.encodeCall(registry.revokeRole, (registry.GUARDIAN(), GUARDIAN)));
        _through(abi.encodeCall(registry.unpause, ()));
        _through(abi.encodeCall(registry.setClusterPolicy, ("policy")));
        assert(keccak256(registry.getClusterPolicy()) == keccak256("policy"));
    }

    function test_a_team_looks_after_its_own_role() public {
        bytes32 team = keccak256("TEAM");
        bytes32 lead = keccak256("LEAD");
        _through(abi.encodeCall(registry.setRoleAdmin, (team, lead)));
        _through(abi.encodeCall(registry.grantRole, (lead, PROPOSER)));
        VM.prank(PROPOSER);
        registry.grantRole(team, GUARDIAN);
        assert(registry.hasRole(team, GUARDIAN));
    }

    /// @dev Each step moves the chain by one event of its own shape; a step that changes nothing does not.
    function test_roles_pauses_and_upgrades_are_in_the_head_chain() public {
        deploy(address(this));
        (uint64 first,) = registry.head();
        assert(first == 6); // the roles of its administrator
        bytes32 team = keccak256("TEAM");
        VM.recordLogs();
        registry.grantRole(team, GUARDIAN);
        registry.grantRole(team, GUARDIAN);
        registry.revokeRole(team, GUARDIAN);
        registry.setRoleAdmin(team, keccak256("LEAD"));
        registry.pause();
        registry.unpause();
        address code = address(new LaterRegistry(address(new VeilRegistryExtension())));
        registry.upgradeToAndCall(code, "");
        Vm.Log[] memory logs = VM.getRecordedLogs();
        bytes32 by = bytes32(uint256(uint160(address(this))));
        bytes32 guardian = bytes32(uint256(uint160(GUARDIAN)));
        _found(logs, 7, VeilRegistry.RoleChanged.selector, team, guardian, abi.encode(true, address(this)));
        _found(logs, 8, VeilRegistry.RoleChanged.selector, team, guardian, abi.encode(false, address(this)));
        _found(logs, 9, VeilRegistry.RoleAdminSet.selector, team, keccak256("LEAD"), abi.encode(address(this)));
        _found(logs, 10, VeilRegistry.PauseChanged.selector, bytes32(uint256(1)), by, "");
        _found(logs, 11, VeilRegistry.PauseChanged.selector, 0, by, "");
        _found(logs, 12, VeilRegistry.CodeChanged.selector, bytes32(uint256(uint160(code))), by, "");
        (uint64 last,) = registry.head();
        assert(last == 12);
    }

    function _found(Vm.Log[] memory logs, uint256 rv, bytes32 topic, bytes32 second, bytes32 third, bytes memory data) private pure {
        for (uint256 i = 0; i < logs.length; ++i) {
            bytes32[] memory t = logs[i].topics;
            if (t.length != 4 || t[0] != topic || uint256(t[1]) != rv) continue;
            require(t[2] == second && t[3] == third && keccak256(logs[i].data) == keccak256(data), "another event");
            return;
        }
        revert("no such event");
    }

    function test_nobody_initializes_twice_or_the_bare_code() public {
        (bool done,) = address(registry).call(abi.encodeCall(registry.initialize, (GUARDIAN)));
        assert(!done);
        VeilRegistry bare = new VeilRegistry(registry.extension());
        (done,) = address(bare).call(abi.encodeCall(bare.initialize, (GUARDIAN)));
        assert(!done);
    }
}
