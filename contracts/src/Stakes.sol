// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Membership} from "./Membership.sol";
import {Bond, Node, NodeStatus, StakeTerms, StakesStorage, stakesStorage} from "./Storage.sol";

/// @title Stakes, slashing and payments
/// @notice A node's stake is liable while it is a member and for a period after it left. Nothing is ever paid to anybody in
/// passing: amounts are credited, and each account withdraws its own.
abstract contract Stakes is Membership {
    /// @notice May slash, and decides disputes. Trusted: no EVM can judge an evaluation on ciphertexts.
    bytes32 public constant ARBITER = keccak256("ARBITER");
    uint32 public constant PERIOD_MAX_S = 365 days;

    event NodeStaked(uint64 indexed rv, bytes32 indexed peerID, address indexed by, uint128 amount, uint128 total);
    event NodeSlashed(
        uint64 indexed rv, bytes32 indexed peerID, address indexed by, uint128 amount, uint128 left, bytes32 reason
    );
    event StakeTermsChanged(uint64 indexed rv, address indexed by, uint128 indexed minStake, StakeTerms terms);
    event PoolPaid(uint64 indexed rv, address indexed to, address indexed by, uint256 amount);
    event Withdrawn(uint64 indexed rv, address indexed account, address indexed to, uint256 amount);

    error PoolTooSmall(uint256 amount, uint256 pool);
    error NothingToWithdraw(address account);

    /// @notice Add to a node's stake. Anybody may; it becomes the operator's when the node has left.
    function stake(bytes32 peerID) external payable whenNotPaused {
        Node storage n = _known(peerID);
        if (n.status == NodeStatus.Leaving) revert WrongNodeStatus(peerID, n.status);
        if (msg.value == 0) revert ZeroValue("value");
        Bond storage b = stakesStorage().bonds[peerID];
        if (msg.value > type(uint128).max - b.amount) revert TooMuch("value", msg.value, type(uint128).max - b.amount);
        uint128 total = b.amount + uint128(msg.value);
        b.amount = total;
        _record(NodeStaked.selector, peerID, _topic(msg.sender), abi.encode(msg.value, total));
    }

    /// @notice Take from a node's stake, at most all of it, for the pool. Below the minimum stake it is cordoned.
    /// @param reason the digest of the evidence, which the mesh keeps
    function slash(bytes32 peerID, uint128 amount, bytes32 reason) external whenNotPaused onlyRole(ARBITER) {
        if (amount == 0) revert ZeroValue("amount");
        _slash(peerID, amount, reason);
    }

    /// @notice Credit `to` with a part of what was forfeited.
    function payPool(address to, uint256 amount) external whenNotPaused onlyRole(DEFAULT_ADMIN_ROLE) {
        if (to == address(0)) revert ZeroValue("to");
        StakesStorage storage s = stakesStorage();
        if (amount > s.pool) revert PoolTooSmall(amount, s.pool);
        s.pool -= amount;
        s.credits[to] += amount;
        _record(PoolPaid.selector, _topic(to), _topic(msg.sender), abi.encode(amount));
    }

    /// @notice Everything that the caller is credited with, to `to`.
    function withdraw(address payable to) external whenNotPaused {
        if (to == address(0)) revert ZeroValue("to");
        StakesStorage storage s = stakesStorage();
        uint256 amount = s.credits[msg.sender];
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        s.credits[msg.sender] = 0;
        _record(Withdrawn.selector, _topic(msg.sender), _topic(to), abi.encode(amount));
        Address.sendValue(to, amount);
    }

    /// @notice New terms, for stakes and disputes from now on. A node that is leaving keeps the date it has.
    function setStakeTerms(StakeTerms calldata terms) external whenNotPaused onlyRole(POLICY_ADMIN) {
        if (terms.unbondPeriod > PERIOD_MAX_S) revert TooMuch("unbondPeriod", terms.unbondPeriod, PERIOD_MAX_S);
        if (terms.resolvePeriod > PERIOD_MAX_S) revert TooMuch("resolvePeriod", terms.resolvePeriod, PERIOD_MAX_S);
        stakesStorage().terms = terms;
        _record(StakeTermsChanged.selector, _topic(msg.sender), bytes32(uint256(terms.minStake)), abi.encode(terms));
    }

    /// @notice A node's stake in wei, from when it may go (counts while it is Leaving), and the open disputes against it.
    function stakeOf(bytes32 peerID) external view returns (Bond memory) {
        return stakesStorage().bonds[peerID];
    }

    /// @notice What `account` may withdraw, in wei.
    function creditOf(address account) external view returns (uint256) {
        return stakesStorage().credits[account];
    }

    /// @notice What was forfeited and not yet paid out, in wei.
    function slashedPool() external view returns (uint256) {
        return stakesStorage().pool;
    }

    /// @notice The terms of stakes and disputes.
    function stakeTerms() external view returns (StakeTerms memory) {
        return stakesStorage().terms;
    }

    function _slash(bytes32 peerID, uint128 amount, bytes32 reason) internal {
        Node storage n = _known(peerID);
        StakesStorage storage s = stakesStorage();
        Bond storage b = s.bonds[peerID];
        if (amount > b.amount) amount = b.amount;
        uint128 left = b.amount - amount;
        b.amount = left;
        s.pool += amount;
        _record(NodeSlashed.selector, peerID, _topic(msg.sender), abi.encode(amount, left, reason));
        if (n.status == NodeStatus.Active && left < s.terms.minStake) _setStatus(peerID, n, NodeStatus.Cordoned);
    }
}
