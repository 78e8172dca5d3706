// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {AccessControlUpgradeable} from "@openzeppelin/contracts-upgradeable/access/AccessControlUpgradeable.sol";
import {PausableUpgradeable} from "@openzeppelin/contracts-upgradeable/utils/PausableUpgradeable.sol";
import {HeadChain} from "./HeadChain.sol";
import {Bond, Node, NodeStatus, NodesStorage, StakesStorage, nodesStorage, stakesStorage} from "./Storage.sol";

/// @title What the registry and its extension share: roles, limits, and what becomes of a node and its stake
abstract contract Membership is HeadChain, AccessControlUpgradeable, PausableUpgradeable {
    /// @notice May approve, cordon and remove nodes.
    bytes32 public constant NODE_ADMIN = keccak256("NODE_ADMIN");
    /// @notice May set the policy, the allowed images, the terms of stakes and the limits.
    bytes32 public constant POLICY_ADMIN = keccak256("POLICY_ADMIN");

    event NodeStatusChanged(uint64 indexed rv, bytes32 indexed peerID, address indexed operator, NodeStatus status);
    event StakeReleased(uint64 indexed rv, bytes32 indexed peerID, address indexed operator, uint128 amount);

    error UnknownNode(bytes32 peerID);
    error WrongNodeStatus(bytes32 peerID, NodeStatus status);
    error NotOperator(bytes32 peerID, address account);
    error NotMember(address account);
    error StakeTooLow(bytes32 peerID, uint128 amount, uint128 minStake);
    error StillBonded(bytes32 peerID, uint64 unbondAt, uint32 disputes);
    /// @dev `field`: the argument's name, in ASCII.
    error ZeroValue(bytes32 field);
    error TooMuch(bytes32 field, uint256 given, uint256 limit);

    /// @dev The operator of an Active or Cordoned node: a cordoned node takes no new work and keeps its duties.
    modifier onlyMember() {
        if (!_isOperator(msg.sender)) revert NotMember(msg.sender);
        _;
    }

    function _isOperator(address account) internal view returns (bool) {
        return nodesStorage().membersOf[account] != 0;
    }

    function _isMember(NodeStatus status) internal pure returns (bool) {
        return status == NodeStatus.Active || status == NodeStatus.Cordoned;
    }

    function _known(bytes32 peerID) internal view returns (Node storage n) {
        n = nodesStorage().nodes[peerID];
        if (n.status == NodeStatus.None) revert UnknownNode(peerID);
    }

    function _own(bytes32 peerID) internal view returns (Node storage n) {
        n = _known(peerID);
        if (n.operator != msg.sender) revert NotOperator(peerID, msg.sender);
    }

    /// @dev The only place that changes a status once there is one: what it means for membership and stake happens here.
    function _setStatus(bytes32 peerID, Node storage n, NodeStatus status) internal {
        NodesStorage storage s = nodesStorage();
        address operator = n.operator;
        NodeStatus old = n.status;
        bool was = _isMember(old);
        bool becomes = _isMember(status);
        if (becomes && !was) {
            s.membersOf[operator] += 1;
            s.members += 1;
        } else if (was && !becomes) {
            s.membersOf[operator] -= 1;
            s.members -= 1;
        }
        if (status == NodeStatus.Gone) {
            _release(peerID, operator, old);
            n.operator = address(0);
            n.status = NodeStatus.None;
            n.proven = false;
            n.down = false;
            s.labels[peerID] = 0;
        } else {
            StakesStorage storage t = stakesStorage();
            if (status == NodeStatus.Leaving) {
                t.bonds[peerID].unbondAt = uint64(block.timestamp) + t.terms.unbondPeriod;
            } else if (status == NodeStatus.Active) {
                uint128 amount = t.bonds[peerID].amount;
                if (amount < t.terms.minStake) revert StakeTooLow(peerID, amount, t.terms.minStake);
            }
            n.status = status;
        }
        _record(NodeStatusChanged.selector, peerID, _topic(operator), abi.encode(status));
    }

    /// @dev A node's stake becomes its operator's to withdraw: at once if it was never a member, else when it is unbonded.
    /// (Members with a stake become Leaving first.)
    function _release(bytes32 peerID, address operator, NodeStatus from) private {
        StakesStorage storage t = stakesStorage();
        Bond storage b = t.bonds[peerID];
        uint128 amount = b.amount;
        bool bonded = amount != 0 && from == NodeStatus.Leaving && block.timestamp < b.unbondAt;
        if (bonded || b.disputes != 0) revert StillBonded(peerID, b.unbondAt, b.disputes);
        if (amount == 0) return;
        b.amount = 0;
        t.credits[operator] += amount;
        _record(StakeReleased.selector, peerID, _topic(operator), abi.encode(amount));
    }
}
