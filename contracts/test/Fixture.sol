// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {VeilRegistry} from "../src/VeilRegistry.sol";
import {VeilRegistryExtension} from "../src/VeilRegistryExtension.sol";
import {EpochParts} from "../src/Storage.sol";

/// @dev forge's cheat codes, those that are used here.
interface Vm {
    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    function prank(address sender) external;
    function startPrank(address sender) external;
    function stopPrank() external;
    function deal(address account, uint256 balance) external;
    function warp(uint256 timestamp) external;
    function assume(bool condition) external;
    function expectRevert(bytes4 selector) external;
    function expectPartialRevert(bytes4 selector) external;
    function expectRevert(bytes calldata data) external;
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);
    function addr(uint256 key) external pure returns (address);
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
}

Vm constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

/// @dev A registry behind its proxy; the two names are one address, because one contract has both halves.
abstract contract Fixture {
    // forge finds tests by this.
    bool public IS_TEST = true;

    VeilRegistry internal registry;
    VeilRegistryExtension internal extension;
    address internal constant ADMIN = address(0xAD);
    bytes16 internal constant SPACE = bytes16(uint128(0x5));
    bytes32 internal constant SPACE_ID = bytes32(SPACE);

    function deploy(address admin) internal {
        VeilRegistry code = new VeilRegistry(address(new VeilRegistryExtension()));
        bytes memory call = abi.encodeCall(VeilRegistry.initialize, (admin));
        registry = VeilRegistry(payable(address(new ERC1967Proxy(address(code), call))));
        extension = VeilRegistryExtension(address(registry));
    }

    function idOf(uint256 name) internal pure returns (bytes32) {
        return SPACE_ID | bytes32(uint256(uint128(name)));
    }

    /// @dev Registered, proven and approved.
    function join(bytes32 peerID, address operator) internal {
        VM.prank(operator);
        registry.registerNodeWithProof(peerID, operator, new bytes(64));
        VM.prank(ADMIN);
        registry.approveNode(peerID);
    }

    function parts() internal pure returns (EpochParts memory) {
        return EpochParts(bytes32("key"), bytes32("evaluation"), bytes32("circuits"), bytes32("committee"), 3, 2);
    }
}
