// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {HEAD_SLOT, Head, headStorage} from "./Storage.sol";

/// @title The hash chain over every event
/// @notice Every event of the registry has four topics: its signature, the resource version rv, and two of its own. That
/// one shape lets a reader who knows no event at all check that none is missing, changed or out of order: folding
///
///   acc' = bytes24(keccak256(abi.encode(acc, rv, topic0, topic2, topic3, keccak256(data))))
///
/// over the logs gives head(). OpenZeppelin's own events (roles, pause, upgrades) have other shapes and stand outside; what
/// they say is said again by an event of this shape.
abstract contract HeadChain {
    /// @notice How many events there were, and the chain over them.
    function head() external view returns (uint64 rv, bytes24 acc) {
        Head storage h = headStorage();
        return (h.rv, h.acc);
    }

    /// @dev The only place that emits. The events are declared where they belong, for the ABI.
    function _record(bytes32 topic0, bytes32 topic2, bytes32 topic3, bytes memory data) internal {
        Head storage h = headStorage();
        uint64 rv = h.rv + 1;
        bytes24 acc = bytes24(keccak256(abi.encode(h.acc, rv, topic0, topic2, topic3, keccak256(data))));
        assembly {
            // Both halves of the slot at once: acc above rv. The shifts clear what a bytes24 may carry below its 24 bytes.
            sstore(HEAD_SLOT, or(shl(64, shr(64, acc)), rv))
            log4(add(data, 0x20), mload(data), topic0, rv, topic2, topic3)
        }
    }

    function _topic(address account) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(account)));
    }
}
