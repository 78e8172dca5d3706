// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Access} from "./Access.sol";
import {Disputes} from "./Disputes.sol";
import {Epochs} from "./Epochs.sol";
import {Images} from "./Images.sol";

/// @title What the registry does less often than placing
/// @notice Stakes, disputes, key epochs, images, rights in namespaces. Only ever reached by the registry's delegatecall: on
/// its own it has no nodes, no namespaces and nobody with a role, so that it takes no ether and changes nothing.
contract VeilRegistryExtension is Access, Epochs, Images, Disputes {}
