// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {AccessControlUpgradeable} from "@openzeppelin/contracts-upgradeable/access/AccessControlUpgradeable.sol";
import {PausableUpgradeable} from "@openzeppelin/contracts-upgradeable/utils/PausableUpgradeable.sol";
import {EIP712Upgradeable} from "@openzeppelin/contracts-upgradeable/utils/cryptography/EIP712Upgradeable.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {HeadChain} from "./HeadChain.sol";

/// @title Membership and down marks
/// @notice A peerID is a raw Ed25519 public key. The EVM cannot verify Ed25519, so the proof of possession travels in the
/// event and every reader verifies it; the contract only knows that one was given. A registration never replaces
/// another: a squatted peerID stays Pending until an administrator removes it, and its owner registers then.
abstract contract Nodes is HeadChain, AccessControlUpgradeable, PausableUpgradeable, EIP712Upgradeable {
    enum NodeStatus {
        None,
        Pending,
        Active,
        Cordoned,
        Leaving,
        Gone
    }

    /// @dev One slot. `floor`: a down mark needs a higher incarnation. It outlives the registration, so that old
    /// signatures are never good again.
    struct Node {
        address operator;
        NodeStatus status;
        bool proven;
        bool down;
        uint64 floor;
    }

    /// @custom:storage-location erc7201:veil.nodes
    struct NodesStorage {
        mapping(bytes32 peerID => Node) nodes;
        mapping(address operator => uint32) membersOf;
        uint32 members;
        uint8 downSigners;
    }

    bytes32 public constant NODE_ADMIN = keccak256("NODE_ADMIN");
    bytes32 public constant POLICY_ADMIN = keccak256("POLICY_ADMIN");
    uint256 public constant PROOF_BYTES = 64;
    uint256 public constant INFO_MAX_BYTES = 1024;
    uint256 public constant DOWN_SIGNERS_MAX = 16;
    bytes32 private constant MARK_DOWN_TYPEHASH = keccak256("MarkDown(bytes32 peerID,uint64 incarnation)");
    bytes32 private constant NODES_SLOT = 0xf027762248745d45f5e86aead488aa0d5b6e5d2696136255b8d667f362ff1500;

    event NodeRegistered(uint64 indexed rv, bytes32 indexed peerID, address indexed operator, bytes proof);
    event NodeInfoPublished(uint64 indexed rv, bytes32 indexed peerID, address indexed operator, bytes info);
    event NodeStatusChanged(uint64 indexed rv, bytes32 indexed peerID, address indexed operator, NodeStatus status);
    event NodeMarkedDown(uint64 indexed rv, bytes32 indexed peerID, address indexed by, uint64 incarnation);
    event NodeMarkedUp(uint64 indexed rv, bytes32 indexed peerID, address indexed by, uint64 incarnation);
    event DownSignersChanged(uint64 indexed rv, uint8 indexed count, address indexed by);

    error UnknownNode(bytes32 peerID);
    error NodeExists(bytes32 peerID);
    error WrongNodeStatus(bytes32 peerID, NodeStatus status);
    error NotOperator(bytes32 peerID, address account);
    error NotMember(address account);
    error NotProven(bytes32 peerID);
    error WrongProofLength(uint256 length);
    error StaleIncarnation(bytes32 peerID, uint64 incarnation, uint64 floor);
    error TooFewSigners(uint256 given, uint256 needed);
    error TooManySigners(uint256 given, uint256 limit);
    error SignersNotAscending(address signer);
    error TooLong(uint256 length, uint256 limit);
    error ZeroValue();

    /// @dev The operator of an Active or Cordoned node: a cordoned node takes no new work and keeps its duties.
    modifier onlyMember() {
        if (_nodes().membersOf[msg.sender] == 0) revert NotMember(msg.sender);
        _;
    }

    function _nodes() private pure returns (NodesStorage storage s) {
        assembly {
            s.slot := NODES_SLOT
        }
    }

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
        if (operator == address(0) || peerID == 0) revert ZeroValue();
        if (msg.sender != operator && !hasRole(NODE_ADMIN, msg.sender)) revert NotOperator(peerID, msg.sender);
        Node storage n = _nodes().nodes[peerID];
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
        if (info.length > INFO_MAX_BYTES) revert TooLong(info.length, INFO_MAX_BYTES);
        _own(peerID);
        _record(NodeInfoPublished.selector, peerID, _topic(msg.sender), abi.encode(info));
    }

    /// @notice Pending to Active. Whoever approves has verified the proof.
    function approveNode(bytes32 peerID) external whenNotPaused onlyRole(NODE_ADMIN) {
        Node storage n = _known(peerID);
        if (n.status != NodeStatus.Pending) revert WrongNodeStatus(peerID, n.status);
        if (!n.proven) revert NotProven(peerID);
        _setStatus(peerID, n, NodeStatus.Active);
    }

    /// @notice Cordon, uncordon, leave, withdraw: by the operator or an administrator. Pending becomes Active by approval only.
    function setNodeStatus(bytes32 peerID, NodeStatus status) external whenNotPaused {
        Node storage n = _known(peerID);
        if (n.operator != msg.sender && !hasRole(NODE_ADMIN, msg.sender)) revert NotOperator(peerID, msg.sender);
        NodeStatus old = n.status;
        bool allowed;
        if (status == NodeStatus.Cordoned) allowed = old == NodeStatus.Active;
        else if (status == NodeStatus.Active) allowed = old == NodeStatus.Cordoned;
        else if (status == NodeStatus.Leaving) allowed = _isMember(old);
        else if (status == NodeStatus.Gone) allowed = old == NodeStatus.Leaving || old == NodeStatus.Pending;
        if (!allowed) revert WrongNodeStatus(peerID, old);
        _setStatus(peerID, n, status);
    }

    /// @notice Take a node out at once: a squatter, or one whose operator is gone.
    function removeNode(bytes32 peerID) external whenNotPaused onlyRole(NODE_ADMIN) {
        _setStatus(peerID, _known(peerID), NodeStatus.Gone);
    }

    function _setStatus(bytes32 peerID, Node storage n, NodeStatus status) private {
        NodesStorage storage s = _nodes();
        address operator = n.operator;
        bool was = _isMember(n.status);
        bool becomes = _isMember(status);
        if (becomes && !was) {
            s.membersOf[operator] += 1;
            s.members += 1;
        } else if (was && !becomes) {
            s.membersOf[operator] -= 1;
            s.members -= 1;
        }
        if (status == NodeStatus.Gone) {
            n.operator = address(0);
            n.status = NodeStatus.None;
            n.proven = false;
            n.down = false;
        } else {
            n.status = status;
        }
        _record(NodeStatusChanged.selector, peerID, _topic(operator), abi.encode(status));
    }

    /// @notice Declare a node dead, with the EIP-712 signatures of k distinct operators of members.
    /// @param signatures 65 bytes each, ordered by their signer's address, ascending (so that none counts twice)
    function markDown(bytes32 peerID, uint64 incarnation, bytes[] calldata signatures) external whenNotPaused {
        NodesStorage storage s = _nodes();
        Node storage n = _known(peerID);
        if (incarnation <= n.floor) revert StaleIncarnation(peerID, incarnation, n.floor);
        if (signatures.length < downSigners()) revert TooFewSigners(signatures.length, downSigners());
        if (signatures.length > DOWN_SIGNERS_MAX) revert TooManySigners(signatures.length, DOWN_SIGNERS_MAX);
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
        if (!n.down || incarnation <= n.floor) revert StaleIncarnation(peerID, incarnation, n.floor);
        n.down = false;
        n.floor = incarnation - 1;
        _record(NodeMarkedUp.selector, peerID, _topic(msg.sender), abi.encode(incarnation));
    }

    /// @notice k of markDown; 0 for min(3, floor(members / 2) + 1).
    function setDownSigners(uint8 count) external whenNotPaused onlyRole(POLICY_ADMIN) {
        if (count > DOWN_SIGNERS_MAX) revert TooManySigners(count, DOWN_SIGNERS_MAX);
        _nodes().downSigners = count;
        _record(DownSignersChanged.selector, bytes32(uint256(count)), _topic(msg.sender), "");
    }

    /// @notice How many operators a down mark needs now.
    function downSigners() public view returns (uint256) {
        NodesStorage storage s = _nodes();
        if (s.downSigners != 0) return s.downSigners;
        uint256 majority = uint256(s.members) / 2 + 1;
        return majority < 3 ? majority : 3;
    }

    /// @notice One node; status None when there is none.
    function getNode(bytes32 peerID) external view returns (Node memory) {
        return _nodes().nodes[peerID];
    }

    /// @notice How many Active and Cordoned nodes there are, and how many of them `operator` runs.
    function memberCount(address operator) external view returns (uint32 all, uint32 own) {
        return (_nodes().members, _nodes().membersOf[operator]);
    }

    function _isOperator(address account) internal view returns (bool) {
        return _nodes().membersOf[account] != 0;
    }

    function _isMember(NodeStatus status) private pure returns (bool) {
        return status == NodeStatus.Active || status == NodeStatus.Cordoned;
    }

    function _known(bytes32 peerID) private view returns (Node storage n) {
        n = _nodes().nodes[peerID];
        if (n.status == NodeStatus.None) revert UnknownNode(peerID);
    }

    function _own(bytes32 peerID) private view returns (Node storage n) {
        n = _known(peerID);
        if (n.operator != msg.sender) revert NotOperator(peerID, msg.sender);
    }
}
