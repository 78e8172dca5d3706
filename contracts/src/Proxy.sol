// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

// Compiled into the artifacts: what every registry stands behind.
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
