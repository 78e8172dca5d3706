// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Membership} from "./Membership.sol";
import {policyStorage} from "./Storage.sol";

/// @title Which images may run
abstract contract Images is Membership {
    event ImageRootChanged(uint64 indexed rv, bytes32 indexed root, address indexed by, bytes32 listDigest);
    event ImageCommitted(uint64 indexed rv, bytes32 indexed name, bytes32 indexed manifest, address by);

    /// @notice Allow the images under `root` and no others; 0 allows every image.
    /// @param listDigest the digest of the list of manifest digests, which the mesh keeps
    function setImageRoot(bytes32 root, bytes32 listDigest) external whenNotPaused onlyRole(POLICY_ADMIN) {
        policyStorage().imageRoot = root;
        _record(ImageRootChanged.selector, root, _topic(msg.sender), abi.encode(listDigest));
    }

    /// @notice Commit to the manifest that an image's name stands for; 0 takes it back.
    /// @param name keccak256 of the reference without a digest, for example "registry.example/app:1.2"
    /// @param manifest the 32 bytes of the manifest's SHA-256 digest
    function commitImage(bytes32 name, bytes32 manifest) external whenNotPaused onlyRole(POLICY_ADMIN) {
        if (name == 0) revert ZeroValue("name");
        policyStorage().images[name] = manifest;
        _record(ImageCommitted.selector, name, manifest, abi.encode(msg.sender));
    }

    /// @notice Whether an image may run. A leaf is keccak256(bytes.concat(keccak256(abi.encode(manifest)))), pairs are sorted.
    /// @param manifest the 32 bytes of the manifest's SHA-256 digest
    function isImageAllowed(bytes32 manifest, bytes32[] calldata proof) external view returns (bool) {
        bytes32 root = policyStorage().imageRoot;
        if (root == 0) return true;
        return MerkleProof.verifyCalldata(proof, root, keccak256(bytes.concat(keccak256(abi.encode(manifest)))));
    }

    /// @notice The root over the allowed images, 0 when all are.
    function imageRoot() external view returns (bytes32) {
        return policyStorage().imageRoot;
    }

    /// @notice The manifest that a name stands for, 0 for no commitment.
    function imageManifest(bytes32 name) external view returns (bytes32) {
        return policyStorage().images[name];
    }
}
