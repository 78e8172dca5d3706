// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

// Compiled into the artifacts: what every registry stands behind, and who administers one that strangers share.
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
