// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Stakes} from "./Stakes.sol";
import {Dispute, DisputeStatus, StakesStorage, disputesStorage, placementsStorage, stakesStorage} from "./Storage.sol";

/// @title Disputes over what is in the placement log or was anchored
/// @notice The accuser puts up a bond and names the evidence by its digest; the accused's stake stays until it is decided.
/// The arbiter upholds (the bond goes back, the stake may be slashed) or rejects (the bond is forfeited). What it does not
/// decide in time anybody may let lapse. One decision for each subject and accused is final.
abstract contract Disputes is Stakes {
    event DisputeOpened(
        uint64 indexed rv, bytes32 indexed id, bytes32 indexed accused, address by, bytes32 subject, bytes32 evidence, uint128 bond
    );
    event DisputeClosed(
        uint64 indexed rv, bytes32 indexed id, bytes32 indexed accused, DisputeStatus status, uint128 slashed, bytes32 reason
    );

    error NotInLog(uint8 shard, uint64 seq, bytes32 leaf);
    error NotAppended(uint8 shard, uint64 seq);
    error NotAnchored(bytes32 assignmentHash);
    error BondTooLow(uint256 given, uint128 needed);
    error WrongDisputeStatus(bytes32 id, DisputeStatus status);
    error NotLapsed(bytes32 id, uint64 deadline);

    /// @notice Dispute one leaf of the placement log, against the node that is to blame for it.
    /// @return id of the dispute
    function disputePlacement(
        uint8 shard,
        uint64 seq,
        bytes32 leaf,
        bytes32[] calldata proof,
        bytes32 accused,
        bytes32 evidence
    ) external payable whenNotPaused returns (bytes32 id) {
        bytes32 root = placementsStorage().roots[shard][seq];
        if (root == 0 || !MerkleProof.verifyCalldata(proof, root, leaf)) revert NotInLog(shard, seq, leaf);
        return _open(keccak256(abi.encode(shard, seq, leaf)), accused, evidence);
    }

    /// @notice Dispute an append as a whole, whatever is under its root: that its sender was not among the first ranks of
    /// the shard then, or that nobody can have its leaves. Against the node that is to blame for it.
    /// @return id of the dispute
    function disputeAppend(uint8 shard, uint64 seq, bytes32 accused, bytes32 evidence)
        external
        payable
        whenNotPaused
        returns (bytes32 id)
    {
        if (placementsStorage().roots[shard][seq] == 0) revert NotAppended(shard, seq);
        return _open(keccak256(abi.encode(shard, seq)), accused, evidence);
    }

    /// @notice Dispute a note of anchorDeployment, against the node that is to blame for it.
    /// @return id of the dispute
    function disputeDeployment(bytes32 assignmentHash, bytes32 accused, bytes32 evidence)
        external
        payable
        whenNotPaused
        returns (bytes32 id)
    {
        if (placementsStorage().anchors[assignmentHash] == address(0)) revert NotAnchored(assignmentHash);
        return _open(assignmentHash, accused, evidence);
    }

    /// @notice Decide. The bond goes back if the dispute is upheld, else into the pool.
    /// @param slashAmount of the accused's stake, in wei, at most all of it; only where upheld
    /// @param reason the digest of the reasons
    function resolveDispute(bytes32 id, bool upheld, uint128 slashAmount, bytes32 reason)
        external
        whenNotPaused
        onlyRole(ARBITER)
    {
        DisputeStatus status = upheld ? DisputeStatus.Upheld : DisputeStatus.Rejected;
        Dispute storage d = _close(id, status);
        uint128 before = stakesStorage().bonds[d.accused].amount;
        uint128 slashed = upheld ? (slashAmount < before ? slashAmount : before) : 0;
        _record(DisputeClosed.selector, id, d.accused, abi.encode(status, slashed, reason));
        if (slashed != 0) _slash(d.accused, slashed, id);
    }

    /// @notice Close what the arbiter did not decide in time. The bond goes back; the same may be disputed again.
    function lapseDispute(bytes32 id) external whenNotPaused {
        Dispute storage d = _close(id, DisputeStatus.Lapsed);
        if (block.timestamp <= d.deadline) revert NotLapsed(id, d.deadline);
        _record(DisputeClosed.selector, id, d.accused, abi.encode(DisputeStatus.Lapsed, uint128(0), bytes32(0)));
    }

    /// @notice One dispute; status None when there is none.
    function getDispute(bytes32 id) external view returns (Dispute memory) {
        return disputesStorage().disputes[id];
    }

    /// @notice The id of the dispute over `subject` against `accused`. The subject of a leaf is
    /// keccak256(abi.encode(shard, seq, leaf)), that of an append keccak256(abi.encode(shard, seq)), that of a note its
    /// assignmentHash.
    function disputeId(bytes32 subject, bytes32 accused) public pure returns (bytes32) {
        return keccak256(abi.encode(subject, accused));
    }

    function _open(bytes32 subject, bytes32 accused, bytes32 evidence) private returns (bytes32 id) {
        if (evidence == 0) revert ZeroValue("evidence");
        _known(accused);
        StakesStorage storage s = stakesStorage();
        if (msg.value < s.terms.disputeBond) revert BondTooLow(msg.value, s.terms.disputeBond);
        if (msg.value > type(uint128).max) revert TooMuch("value", msg.value, type(uint128).max);
        id = disputeId(subject, accused);
        Dispute storage d = disputesStorage().disputes[id];
        if (d.status != DisputeStatus.None && d.status != DisputeStatus.Lapsed) revert WrongDisputeStatus(id, d.status);
        d.accused = accused;
        d.by = msg.sender;
        d.deadline = uint64(block.timestamp) + s.terms.resolvePeriod;
        d.status = DisputeStatus.Open;
        d.bond = uint128(msg.value);
        s.bonds[accused].disputes += 1;
        _record(DisputeOpened.selector, id, accused, abi.encode(msg.sender, subject, evidence, uint128(msg.value)));
    }

    function _close(bytes32 id, DisputeStatus status) private returns (Dispute storage d) {
        d = disputesStorage().disputes[id];
        if (d.status != DisputeStatus.Open) revert WrongDisputeStatus(id, d.status);
        StakesStorage storage s = stakesStorage();
        d.status = status;
        s.bonds[d.accused].disputes -= 1;
        if (status == DisputeStatus.Rejected) s.pool += d.bond;
        else s.credits[d.by] += d.bond;
    }
}
