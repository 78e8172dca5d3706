// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {DisputeStatus, EpochStatus, NodeStatus, Record} from "../src/Storage.sol";
import {Actor} from "./Actor.sol";
import {Fixture, VM} from "./Fixture.sol";

/// @dev What holds whatever anybody does in whatever order.
contract InvariantTest is Fixture {
    Actor private actor;
    address[] private targets;

    function targetContracts() public view returns (address[] memory) {
        return targets;
    }

    function setUp() public {
        VM.recordLogs();
        deploy(ADMIN);
        actor = new Actor(registry, ADMIN);
        targets.push(address(actor));
    }

    /// @dev Cheap, so after each call.
    function invariant_at_every_moment() public view {
        _generations_only_grow();
        _the_head_chain_is_that_of_the_events();
        _pause_stops_writes();
    }

    /// @dev After each sequence of calls.
    function afterInvariant() public view {
        _stakes_are_conserved();
        _open_disputes_are_counted();
        _no_object_without_its_hash();
        _namespaces_count_their_objects();
        _the_active_epoch_is_the_oldest_not_retired();
        _members_are_counted();
        _the_log_has_no_gap();
    }

    /// @dev Every wei that came in is some node's stake, somebody's credit, an open dispute's bond or in the pool.
    function _stakes_are_conserved() private view {
        uint256 owed = extension.slashedPool();
        for (uint256 i = 0; i < actor.PEERS(); ++i) owed += extension.stakeOf(actor.peer(i)).amount;
        for (uint256 i = 0; i < actor.ACCOUNTS(); ++i) owed += extension.creditOf(actor.account(i));
        require(extension.creditOf(ADMIN) == 0, "stakes are conserved");
        owed += _openBonds();
        require(address(registry).balance == owed, "stakes are conserved");
        require(actor.received() - actor.returned() == owed, "stakes are conserved");
    }

    function _openBonds() private view returns (uint256 sum) {
        for (uint256 note = 1; note <= 3; ++note) {
            for (uint256 i = 0; i < actor.PEERS(); ++i) {
                bytes32 id = extension.disputeId(bytes32(note), actor.peer(i));
                if (extension.getDispute(id).status == DisputeStatus.Open) sum += extension.getDispute(id).bond;
            }
        }
    }

    /// @dev A stake cannot go from under a dispute.
    function _open_disputes_are_counted() private view {
        for (uint256 i = 0; i < actor.PEERS(); ++i) {
            uint256 open = 0;
            for (uint256 note = 1; note <= 3; ++note) {
                bytes32 id = extension.disputeId(bytes32(note), actor.peer(i));
                if (extension.getDispute(id).status == DisputeStatus.Open) open += 1;
            }
            require(extension.stakeOf(actor.peer(i)).disputes == open, "open disputes are counted");
            if (open != 0) require(registry.getNode(actor.peer(i)).status != NodeStatus.None, "open disputes are counted");
        }
    }

    /// @dev By at most one in a call, and never back, deleted or not.
    function _generations_only_grow() private view {
        require(!actor.wentBack(), "generations only grow");
    }

    function _no_object_without_its_hash() private view {
        for (uint256 i = 0; i < 2 * actor.NAMES(); ++i) {
            (bytes32 id, uint8 kind) = actor.object(i);
            Record memory r = registry.getObject(kind, id);
            require(r.digest == (r.owner == address(0) ? bytes32(0) : actor.envelopeOf(id)), "no object without its hash");
            if (r.owner != address(0)) require(registry.getObject(1, bytes32(bytes16(id))).owner != address(0), "no object without its hash");
        }
    }

    function _namespaces_count_their_objects() private view {
        for (uint256 space = 0; space < 2; ++space) {
            uint256 live = 0;
            for (uint256 i = 1; i < actor.NAMES(); ++i) {
                (bytes32 id, uint8 kind) = actor.object(space * actor.NAMES() + i);
                if (registry.getObject(kind, id).owner != address(0)) live += 1;
            }
            (bytes32 ns, uint8 one) = actor.object(space * actor.NAMES());
            require(registry.getObject(one, ns).objects == live, "namespaces count their objects");
        }
    }

    function _the_head_chain_is_that_of_the_events() private view {
        (uint64 rv, bytes24 acc) = registry.head();
        require(!actor.gap(), "the head chain is that of the events");
        require(actor.untold() == 0, "the head chain is over every event");
        require(rv == actor.rv() && acc == actor.acc(), "the head chain is that of the events");
    }

    /// @dev Nothing is written while paused, and everything can be read (the invariants do).
    function _pause_stops_writes() private view {
        require(actor.slipped() == 0, "pause stops writes");
    }

    function _the_active_epoch_is_the_oldest_not_retired() private view {
        uint64 oldest = 0;
        for (uint64 epoch = 12; epoch != 0; --epoch) {
            (, EpochStatus status,) = extension.getEpoch(epoch);
            if (status == EpochStatus.Active || status == EpochStatus.Prepared) oldest = epoch;
        }
        require(extension.activeEpoch() == oldest, "the active epoch is the oldest not retired");
        if (oldest == 0) return;
        (, EpochStatus found,) = extension.getEpoch(oldest);
        require(found == EpochStatus.Active, "the active epoch is the oldest not retired");
    }

    function _members_are_counted() private view {
        uint256 members = 0;
        for (uint256 i = 0; i < actor.PEERS(); ++i) {
            NodeStatus status = registry.getNode(actor.peer(i)).status;
            if (status == NodeStatus.Active || status == NodeStatus.Cordoned) members += 1;
        }
        (uint32 all,) = registry.memberCount(ADMIN);
        require(all == members, "members are counted");
    }

    function _the_log_has_no_gap() private view {
        for (uint8 shard = 0; shard < 16; ++shard) {
            uint64 last = registry.placementSequence(shard);
            require(last == actor.appended(shard), "the log has no gap");
            require(registry.placementRoot(shard, last + 1) == 0, "the log has no gap");
            if (last != 0) require(registry.placementRoot(shard, last) != 0, "the log has no gap");
        }
    }
}
