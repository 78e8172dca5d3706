// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {
    DisputesStorage,
    EpochsStorage,
    Head,
    NodesStorage,
    ObjectsStorage,
    PlacementsStorage,
    PolicyStorage,
    StakesStorage
} from "../src/Storage.sol";

/// @dev Never deployed. The compiler tells the layout of state variables only, so here is one of each namespace's type.
contract Layout {
    Head private head;
    NodesStorage private nodes;
    StakesStorage private stakes;
    ObjectsStorage private objects;
    PlacementsStorage private placements;
    DisputesStorage private disputes;
    PolicyStorage private policy;
    EpochsStorage private epochs;
}
