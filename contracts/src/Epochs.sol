// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Membership} from "./Membership.sol";
import {Epoch, EpochParts, EpochStatus, EpochsStorage, epochsStorage} from "./Storage.sol";

/// @title Key epochs
/// @notice The active epoch, which rounds use, is the oldest that is not retired. A newer one is prepared by all nodes
/// meanwhile and becomes active when what came before it is retired, in one block that all read.
abstract contract Epochs is Membership {
    /// @notice May publish, activate and retire key epochs.
    bytes32 public constant KEY_ADMIN = keccak256("KEY_ADMIN");
    uint16 public constant COMMITTEE_MAX = 64;

    event EpochPublished(uint64 indexed rv, uint64 indexed epoch, bytes32 indexed digest, EpochParts parts);
    event EpochActivated(uint64 indexed rv, uint64 indexed epoch, bytes32 indexed digest);
    event EpochRetired(uint64 indexed rv, uint64 indexed epoch, bytes32 indexed digest);

    error StaleEpoch(uint64 epoch, uint64 last);
    error WrongEpochStatus(uint64 epoch, EpochStatus status);
    error WrongThreshold(uint16 threshold, uint16 size);

    /// @notice A new key epoch: the digest of everything public about it, and those of its parts. It is active at once if
    /// there is no other.
    function publishEpoch(uint64 epoch, bytes32 digest, EpochParts calldata parts)
        external
        whenNotPaused
        onlyRole(KEY_ADMIN)
    {
        EpochsStorage storage s = epochsStorage();
        if (digest == 0) revert ZeroValue("digest");
        if (parts.publicKey == 0) revert ZeroValue("publicKey");
        if (parts.evaluationKeys == 0) revert ZeroValue("evaluationKeys");
        if (parts.circuits == 0) revert ZeroValue("circuits");
        if (parts.committee == 0) revert ZeroValue("committee");
        if (parts.size > COMMITTEE_MAX) revert TooMuch("size", parts.size, COMMITTEE_MAX);
        if (parts.threshold == 0 || parts.threshold > parts.size) revert WrongThreshold(parts.threshold, parts.size);
        if (epoch <= s.last) revert StaleEpoch(epoch, s.last);
        Epoch storage e = s.epochs[epoch];
        e.digest = digest;
        e.parts = parts;
        e.older = s.newest;
        if (s.newest != 0) s.epochs[s.newest].newer = epoch;
        if (s.active == 0) s.active = epoch;
        s.newest = epoch;
        s.last = epoch;
        _record(EpochPublished.selector, bytes32(uint256(epoch)), digest, abi.encode(parts));
    }

    /// @notice Let a prepared epoch take over: every one before it is retired.
    function activateEpoch(uint64 epoch) external whenNotPaused onlyRole(KEY_ADMIN) {
        EpochsStorage storage s = epochsStorage();
        Epoch storage e = _with(s, epoch, EpochStatus.Prepared);
        s.active = epoch;
        s.floor = epoch;
        e.older = 0;
        _record(EpochActivated.selector, bytes32(uint256(epoch)), e.digest, "");
    }

    /// @notice No new round uses this epoch. If it was active, the next one is.
    function retireEpoch(uint64 epoch) external whenNotPaused onlyRole(KEY_ADMIN) {
        EpochsStorage storage s = epochsStorage();
        EpochStatus status = _status(s, epoch);
        if (status != EpochStatus.Prepared && status != EpochStatus.Active) revert WrongEpochStatus(epoch, status);
        Epoch storage e = s.epochs[epoch];
        e.retired = true;
        if (e.older != 0) s.epochs[e.older].newer = e.newer;
        else s.active = e.newer;
        if (e.newer != 0) s.epochs[e.newer].older = e.older;
        else s.newest = e.older;
        _record(EpochRetired.selector, bytes32(uint256(epoch)), e.digest, "");
    }

    /// @notice One epoch; status None when it was never published.
    function getEpoch(uint64 epoch) external view returns (bytes32 digest, EpochStatus status, EpochParts memory parts) {
        Epoch storage e = epochsStorage().epochs[epoch];
        return (e.digest, _status(epochsStorage(), epoch), e.parts);
    }

    /// @notice The epoch that rounds use, 0 for none.
    function activeEpoch() external view returns (uint64) {
        return epochsStorage().active;
    }

    function _with(EpochsStorage storage s, uint64 epoch, EpochStatus wanted) private view returns (Epoch storage) {
        EpochStatus status = _status(s, epoch);
        if (status != wanted) revert WrongEpochStatus(epoch, status);
        return s.epochs[epoch];
    }

    function _status(EpochsStorage storage s, uint64 epoch) private view returns (EpochStatus) {
        Epoch storage e = s.epochs[epoch];
        if (e.digest == 0) return EpochStatus.None;
        if (e.retired || epoch < s.floor) return EpochStatus.Retired;
        return epoch == s.active ? EpochStatus.Active : EpochStatus.Prepared;
    }
}
