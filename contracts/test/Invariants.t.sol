// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {DisputeStatus, EpochStatus, NodeStatus, Record} from "../src/Storage.sol";
import {Actor} from "./Actor.sol";
import {Fixture} from "./Fixture.sol";

/// @dev What holds whatever anybody does in whatever order.
contract InvariantTest is Fixture {
    Actor private actor;
    address[] private targets;

    function targetContracts() public view returns (address[] memory) {
        return targets;
    }

    function setUp() public {
        deploy(ADMIN);
        actor = new Actor(registry, ADMIN);
        targets.push(address(actor));
    }

    /// @dev Every wei that came in is some node's stake, somebody's credit, an open dispute's bond or in the pool.
    function invariant_stakes_are_conserved() public view {
        uint256 owed = extension.slashedPool();
        for (uint256 i = 0; i < actor.ACCOUNTS(); ++i) {
            owed += extension.stakeOf(actor.peer(i)).amount + extension.creditOf(actor.account(i));
        }
        assert(extension.creditOf(ADMIN) == 0);
        owed += _openBonds();
        assert(address(registry).balance == owed);
        assert(actor.received() - actor.returned() == owed);
    }

    function _openBonds() private view returns (uint256 sum) {
        for (uint256 note = 1; note <= 3; ++note) {
            for (uint256 i = 0; i < actor.ACCOUNTS(); ++i) {
                bytes32 id = extension.disputeId(bytes32(note), actor.peer(i));
                if (extension.getDispute(id).status == DisputeStatus.Open) sum += extension.getDispute(id).bond;
            }
        }
    }

    /// @dev A stake cannot go from under a dispute.
    function invariant_open_disputes_are_counted() public view {
        for (uint256 i = 0; i < actor.ACCOUNTS(); ++i) {
            uint256 open = 0;
            for (uint256 note = 1; note <= 3; ++note) {
                bytes32 id = extension.disputeId(bytes32(note), actor.peer(i));
                if (extension.getDispute(id).status == DisputeStatus.Open) open += 1;
            }
            assert(extension.stakeOf(actor.peer(i)).disputes == open);
            if (open != 0) assert(registry.getNode(actor.peer(i)).status != NodeStatus.None);
        }
    }

    /// @dev By at most one in a call, and never back, deleted or not.
    function invariant_generations_only_grow() public view {
        assert(!actor.wentBack());
    }

    function invariant_no_object_without_its_hash() public view {
        for (uint256 i = 0; i < 2 * actor.NAMES(); ++i) {
            (bytes32 id, uint8 kind) = actor.object(i);
            Record memory r = registry.getObject(kind, id);
            assert(r.digest == (r.owner == address(0) ? bytes32(0) : actor.envelopeOf(id)));
            if (r.owner != address(0)) assert(registry.getObject(1, bytes32(bytes16(id))).owner != address(0));
        }
    }

    function invariant_namespaces_count_their_objects() public view {
        for (uint256 space = 0; space < 2; ++space) {
            uint256 live = 0;
            for (uint256 i = 1; i < actor.NAMES(); ++i) {
                (bytes32 id, uint8 kind) = actor.object(space * actor.NAMES() + i);
                if (registry.getObject(kind, id).owner != address(0)) live += 1;
            }
            (bytes32 ns, uint8 one) = actor.object(space * actor.NAMES());
            assert(registry.getObject(one, ns).objects == live);
        }
    }

    function invariant_the_head_chain_is_that_of_the_events() public view {
        (uint64 rv, bytes24 acc) = registry.head();
        assert(!actor.gap());
        assert(rv == actor.rv() && acc == actor.acc());
    }

    /// @dev Nothing is written while paused, and everything can be read (the invariants do).
    function invariant_pause_stops_writes() public view {
        assert(actor.slipped() == 0);
    }

    function invariant_the_active_epoch_is_the_oldest_not_retired() public view {
        uint64 oldest = 0;
        for (uint64 epoch = 12; epoch != 0; --epoch) {
            (, EpochStatus status,) = extension.getEpoch(epoch);
            if (status == EpochStatus.Active || status == EpochStatus.Prepared) oldest = epoch;
        }
        assert(extension.activeEpoch() == oldest);
        if (oldest == 0) return;
        (, EpochStatus found,) = extension.getEpoch(oldest);
        assert(found == EpochStatus.Active);
    }

    function invariant_members_are_counted() public view {
        uint256 members = 0;
        for (uint256 i = 0; i < actor.ACCOUNTS(); ++i) {
            NodeStatus status = registry.getNode(actor.peer(i)).status;
            if (status == NodeStatus.Active || status == NodeStatus.Cordoned) members += 1;
        }
        (uint32 all,) = registry.memberCount(ADMIN);
        assert(all == members);
    }

    function invariant_the_log_has_no_gap() public view {
        for (uint8 shard = 0; shard < 16; ++shard) {
            uint64 last = registry.placementSequence(shard);
            assert(last == actor.appended(shard));
            assert(registry.placementRoot(shard, last + 1) == 0);
            if (last != 0) assert(registry.placementRoot(shard, last) != 0);
        }
    }
}
