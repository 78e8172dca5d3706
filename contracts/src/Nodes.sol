// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {EIP712Upgradeable} from "@openzeppelin/contracts-upgradeable/utils/cryptography/EIP712Upgradeable.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Membership} from "./Membership.sol";
import {Node, NodeStatus, NodesStorage, nodesStorage, stakesStorage} from "./Storage.sol";

/// @title Membership and down marks
/// @notice A peerID is a raw Ed25519 public key. The EVM cannot verify Ed25519, so the proof of possession travels in the
/// event and every reader verifies it; the contract only knows that one was given. A registration never replaces
/// another: a squatted peerID stays Pending until an administrator removes it, and its owner registers then.
abstract contract Nodes is Membership, EIP712Upgradeable {
    uint256 public constant PROOF_BYTES = 64;
    uint256 public constant INFO_MAX_BYTES = 1024;
    uint256 public constant DOWN_SIGNERS_MAX = 16;
    /// @notice How far an incarnation may be ahead of the block's time. It begins as the second of a node's start, so that
    /// neither accusers nor the node itself can use up those that will be needed.
    uint256 public constant INCARNATION_AHEAD_MAX_S = 1 days;
    bytes32 private constant MARK_DOWN_TYPEHASH = keccak256("MarkDown(bytes32 peerID,uint64 incarnation)");

    event NodeRegistered(uint64 indexed rv, bytes32 indexed peerID, address indexed operator, bytes proof);
    event NodeInfoPublished(uint64 indexed rv, bytes32 indexed peerID, address indexed operator, bytes info);
    event NodeLabelsChanged(uint64 indexed rv, bytes32 indexed peerID, address indexed by, bytes32 digest);
    event NodeMarkedDown(uint64 indexed rv, bytes32 indexed peerID, address indexed by, uint64 incarnation);
    event NodeMarkedUp(uint64 indexed rv, bytes32 indexed peerID, address indexed by, uint64 incarnation);
    event DownSignersChanged(uint64 indexed rv, uint8 indexed count, address indexed by);

    error NodeExists(bytes32 peerID);
    error NotProven(bytes32 peerID);
    error WrongProofLength(uint256 length);
    error StaleIncarnation(bytes32 peerID, uint64 incarnation, uint64 floor);
    error TooFewSigners(uint256 given, uint256 needed);
    error SignersNotAscending(address signer);

    /// @notice A Pending node without a proof. By the operator itself, or by an administrator for it.
    function registerNode(bytes32 peerID, address operator) external whenNotPaused {
        _register(peerID, operator, "");
    }

    /// @notice A Pending node with its proof in one step.
    /// @param proof the peer key's Ed25519 signature (64 bytes) that this operator may speak for it
    function registerNodeWithProof(bytes32 peerID, address operator, bytes calldata proof) external whenNotPaused {
        if (proof.length != PROOF_BYTES) revert WrongProofLength(proof.length);
        _register(peerID, operator, proof);
    }

    function _register(bytes32 peerID, address operator, bytes memory proof) private {
        if (operator == address(0)) revert ZeroValue("operator");
        if (peerID == 0) revert ZeroValue("peerID");
        if (msg.sender != operator && !hasRole(NODE_ADMIN, msg.sender)) revert NotOperator(peerID, msg.sender);
        Node storage n = nodesStorage().nodes[peerID];
        if (n.status != NodeStatus.None) revert NodeExists(peerID);
        n.operator = operator;
        n.status = NodeStatus.Pending;
        n.proven = proof.length != 0;
        _record(NodeRegistered.selector, peerID, _topic(operator), abi.encode(proof));
    }

    /// @notice The proof of a node that was registered without; may be given again while it is Pending.
    function proveNode(bytes32 peerID, bytes calldata proof) external whenNotPaused {
        if (proof.length != PROOF_BYTES) revert WrongProofLength(proof.length);
        Node storage n = _own(peerID);
        if (n.status != NodeStatus.Pending) revert WrongNodeStatus(peerID, n.status);
        n.proven = true;
        _record(NodeRegistered.selector, peerID, _topic(msg.sender), abi.encode(proof));
    }

    /// @notice What the node says of itself: addresses, labels, name. Only in the event.
    function publishNodeInfo(bytes32 peerID, bytes calldata info) external whenNotPaused {
        if (info.length > INFO_MAX_BYTES) revert TooMuch("info", info.length, INFO_MAX_BYTES);
        _own(peerID);
        _record(NodeInfoPublished.selector, peerID, _topic(msg.sender), abi.encode(info));
    }

    /// @notice The digest of labels that somebody vouches for: an administrator, or the operator for its own node. Readers
    /// see in the event who did, and let no operator's word take the place of an administrator's.
    function setNodeLabels(bytes32 peerID, bytes32 digest) external whenNotPaused {
        _requireOperatorOrAdmin(peerID, _known(peerID));
        nodesStorage().labels[peerID] = digest;
        _record(NodeLabelsChanged.selector, peerID, _topic(msg.sender), abi.encode(digest));
    }

    /// @notice Pending to Active, with at least the minimum stake. Whoever approves has verified the proof.
    function approveNode(bytes32 peerID) external whenNotPaused onlyRole(NODE_ADMIN) {
        Node storage n = _known(peerID);
        if (n.status != NodeStatus.Pending) revert WrongNodeStatus(peerID, n.status);
        if (!n.proven) revert NotProven(peerID);
        _setStatus(peerID, n, NodeStatus.Active);
    }

    /// @notice Cordon, uncordon, leave, withdraw: by the operator or an administrator. Pending becomes Active by approval
    /// only. Leaving starts the unbonding of a stake, Gone waits until it is over and no dispute is open.
    function setNodeStatus(bytes32 peerID, NodeStatus status) external whenNotPaused {
        Node storage n = _known(peerID);
        _requireOperatorOrAdmin(peerID, n);
        NodeStatus old = n.status;
        bool allowed = false;
        if (status == NodeStatus.Cordoned) allowed = old == NodeStatus.Active;
        else if (status == NodeStatus.Active) allowed = old == NodeStatus.Cordoned;
        else if (status == NodeStatus.Leaving) allowed = _isMember(old);
        else if (status == NodeStatus.Gone) allowed = old == NodeStatus.Leaving || old == NodeStatus.Pending;
        if (!allowed) revert WrongNodeStatus(peerID, old);
        _setStatus(peerID, n, status);
    }

    /// @notice Take a node out at once: a squatter, or one whose operator is gone. A member with a stake, or with an open
    /// dispute, is Leaving from now on: its stake stays its operator's, and liable.
    function removeNode(bytes32 peerID) external whenNotPaused onlyRole(NODE_ADMIN) {
        Node storage n = _known(peerID);
        bool liable = stakesStorage().bonds[peerID].amount != 0 || stakesStorage().bonds[peerID].disputes != 0;
        _setStatus(peerID, n, liable && _isMember(n.status) ? NodeStatus.Leaving : NodeStatus.Gone);
    }

    /// @notice Declare a node dead, with the EIP-712 signatures of k distinct operators of members.
    /// @param signatures 65 bytes each, ordered by their signer's address, ascending (so that none counts twice)
    function markDown(bytes32 peerID, uint64 incarnation, bytes[] calldata signatures) external whenNotPaused {
        NodesStorage storage s = nodesStorage();
        Node storage n = _known(peerID);
        _requireIncarnation(peerID, incarnation, n.floor);
        if (signatures.length < downSigners()) revert TooFewSigners(signatures.length, downSigners());
        if (signatures.length > DOWN_SIGNERS_MAX) revert TooMuch("signatures", signatures.length, DOWN_SIGNERS_MAX);
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(MARK_DOWN_TYPEHASH, peerID, incarnation)));
        address last = address(0);
        for (uint256 i = 0; i < signatures.length; ++i) {
            address signer = ECDSA.recover(digest, signatures[i]);
            if (signer <= last) revert SignersNotAscending(signer);
            if (s.membersOf[signer] == 0) revert NotMember(signer);
            last = signer;
        }
        n.down = true;
        n.floor = incarnation;
        _record(NodeMarkedDown.selector, peerID, _topic(msg.sender), abi.encode(incarnation));
    }

    /// @notice The way back, by the node's operator. Signatures for any lower incarnation are worth nothing afterwards,
    /// while `incarnation` itself can be marked down again.
    function markUp(bytes32 peerID, uint64 incarnation) external whenNotPaused {
        Node storage n = _own(peerID);
        if (!n.down) revert StaleIncarnation(peerID, incarnation, n.floor);
        _requireIncarnation(peerID, incarnation, n.floor);
        n.down = false;
        n.floor = incarnation - 1;
        _record(NodeMarkedUp.selector, peerID, _topic(msg.sender), abi.encode(incarnation));
    }

    /// @notice k of markDown; 0 for min(3, floor(members / 2) + 1).
    function setDownSigners(uint8 count) external whenNotPaused onlyRole(POLICY_ADMIN) {
        if (count > DOWN_SIGNERS_MAX) revert TooMuch("count", count, DOWN_SIGNERS_MAX);
        nodesStorage().downSigners = count;
        _record(DownSignersChanged.selector, bytes32(uint256(count)), _topic(msg.sender), "");
    }

    /// @notice How many operators a down mark needs now.
    function downSigners() public view returns (uint256) {
        NodesStorage storage s = nodesStorage();
        if (s.downSigners != 0) return s.downSigners;
        uint256 majority = uint256(s.members) / 2 + 1;
        return majority < 3 ? majority : 3;
    }

    /// @notice One node; status None when there is none.
    function getNode(bytes32 peerID) external view returns (Node memory) {
        return nodesStorage().nodes[peerID];
    }

    /// @notice The digest of a node's labels that was set last, 0 for none.
    function nodeLabels(bytes32 peerID) external view returns (bytes32) {
        return nodesStorage().labels[peerID];
    }

    /// @notice How many Active and Cordoned nodes there are, and how many of them `operator` runs.
    function memberCount(address operator) external view returns (uint32 all, uint32 own) {
        return (nodesStorage().members, nodesStorage().membersOf[operator]);
    }

    function _requireIncarnation(bytes32 peerID, uint64 incarnation, uint64 floor) private view {
        if (incarnation <= floor) revert StaleIncarnation(peerID, incarnation, floor);
        uint256 limit = block.timestamp + INCARNATION_AHEAD_MAX_S;
        if (incarnation > limit) revert TooMuch("incarnation", incarnation, limit);
    }

    function _requireOperatorOrAdmin(bytes32 peerID, Node storage n) private view {
        if (n.operator != msg.sender && !hasRole(NODE_ADMIN, msg.sender)) revert NotOperator(peerID, msg.sender);
    }
}
