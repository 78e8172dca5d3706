// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Membership} from "./Membership.sol";
import {PlacementsStorage, SHARD_COUNT, placementsStorage} from "./Storage.sol";

/// @title The placement log
/// @notice A log for each shard. An append names the sequence it expects to be next: that one rule is both the fence
/// between competing coordinators and the batch, as a Merkle root stands for any number of bindings.
abstract contract PlacementLog is Membership {
    uint8 public constant SHARDS = SHARD_COUNT;

    event PlacementsAppended(
        uint64 indexed rv,
        uint8 indexed shard,
        address indexed sender,
        uint64 seq,
        bytes32 root,
        uint32 count,
        bytes32 dataDigest
    );
    event DeploymentAnchored(uint64 indexed rv, bytes32 indexed assignmentHash, address indexed by);

    /// @dev `expected` is the sequence the caller took for the next one, `actual` the log's last.
    error StaleSequence(uint8 shard, uint64 expected, uint64 actual);
    error UnknownShard(uint8 shard);
    error AlreadyAnchored(bytes32 assignmentHash);

    /// @notice Append `count` leaves under `root` to a shard's log, as number `seq`, which must be the last + 1.
    /// @param dataDigest the digest of the leaves' public data, kept by the mesh
    function appendPlacements(uint8 shard, uint64 seq, bytes32 root, uint32 count, bytes32 dataDigest)
        external
        whenNotPaused
        onlyMember
    {
        if (shard >= SHARDS) revert UnknownShard(shard);
        if (root == 0) revert ZeroValue("root");
        if (count == 0) revert ZeroValue("count");
        PlacementsStorage storage s = placementsStorage();
        uint64 next = s.next[shard];
        if (seq != next) revert StaleSequence(shard, seq, next - 1);
        s.next[shard] = next + 1;
        s.roots[shard][seq] = root;
        bytes memory data = abi.encode(seq, root, count, dataDigest);
        _record(PlacementsAppended.selector, bytes32(uint256(shard)), _topic(msg.sender), data);
    }

    /// @notice The sequence of a shard's last append, 0 for none.
    function placementSequence(uint8 shard) external view returns (uint64) {
        if (shard >= SHARDS) revert UnknownShard(shard);
        return placementsStorage().next[shard] - 1;
    }

    /// @notice The root of one append, 0 when there is none.
    function placementRoot(uint8 shard, uint64 seq) external view returns (bytes32) {
        return placementsStorage().roots[shard][seq];
    }

    /// @notice Whether `leaf` (keccak256 twice over its bytes) is under the root of that append; pairs are sorted.
    function verifyPlacement(uint8 shard, uint64 seq, bytes32 leaf, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        bytes32 root = placementsStorage().roots[shard][seq];
        return root != 0 && MerkleProof.verifyCalldata(proof, root, leaf);
    }

    /// @notice A note for audits. It fences nothing: the log does.
    function anchorDeployment(bytes32 assignmentHash) external whenNotPaused onlyMember returns (bool) {
        if (assignmentHash == 0) revert ZeroValue("assignmentHash");
        PlacementsStorage storage s = placementsStorage();
        if (s.anchors[assignmentHash] != address(0)) revert AlreadyAnchored(assignmentHash);
        s.anchors[assignmentHash] = msg.sender;
        _record(DeploymentAnchored.selector, assignmentHash, _topic(msg.sender), "");
        return true;
    }

    /// @notice Who anchored a note, 0 for nobody.
    function anchoredBy(bytes32 assignmentHash) external view returns (address) {
        return placementsStorage().anchors[assignmentHash];
    }
}
