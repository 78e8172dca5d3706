// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {PausableUpgradeable} from "@openzeppelin/contracts-upgradeable/utils/PausableUpgradeable.sol";
import {VeilRegistry} from "../src/VeilRegistry.sol";
import {VeilRegistryExtension} from "../src/VeilRegistryExtension.sol";
import {EpochParts, NodeStatus, Record, StakeTerms} from "../src/Storage.sol";
import {VM, Vm} from "./Fixture.sol";

/// @dev What forge calls at random: a few accounts, nodes, objects and epochs, so that calls meet. It keeps what it saw from
/// outside (events, amounts that moved, envelopes), and the invariants compare that with what the registry says.
contract Actor {
    VeilRegistry private immutable registry;
    VeilRegistryExtension private immutable extension;
    address private immutable admin;

    uint256 public constant ACCOUNTS = 4;
    uint256 public constant PEERS = 2;
    uint256 public constant NAMES = 3;
    bytes32[] public disputes;
    uint256 public received;
    uint256 public returned;

    /// @dev The chain over the events that were seen, as a reader folds it.
    uint64 public rv;
    bytes24 public acc;
    bool public gap;
    /// @dev Events of OpenZeppelin about roles and pauses, less those of the registry that say the same in the chain.
    int256 public untold;

    mapping(bytes32 id => bytes32) public envelopeOf;
    mapping(bytes32 id => uint48) public generationOf;
    bool public wentBack;

    /// @dev Writes that succeeded while paused.
    uint256 public slipped;
    uint64 public lastEpoch;
    uint64[16] public appended;

    /// @dev Logs are recorded from before the registry was there: its chain begins with the roles of its administrator.
    constructor(VeilRegistry registry_, address admin_) {
        registry = registry_;
        extension = VeilRegistryExtension(address(registry_));
        admin = admin_;
        _watch();
    }

    function account(uint256 seed) public pure returns (address) {
        return address(uint160(0xA000 + seed % ACCOUNTS));
    }

    function peer(uint256 seed) public pure returns (bytes32) {
        return bytes32(0xBEE0 + seed % PEERS);
    }

    /// @dev Two namespaces; name 0 is the Namespace itself.
    function object(uint256 seed) public pure returns (bytes32 id, uint8 kind) {
        uint256 name = seed % NAMES;
        return (bytes32(uint256(1 + seed / NAMES % 2) << 128 | name), name == 0 ? 1 : 2);
    }

    /// @dev Mostly the owner of the namespace, so that things happen.
    function writer(uint256 who, bytes32 id) private view returns (address) {
        address owner = registry.getObject(1, bytes32(bytes16(id))).owner;
        return who % 4 == 0 || owner == address(0) ? account(who / 4) : owner;
    }

    // what can be done

    function applyObject(uint256 who, uint256 which, uint256 how, bytes calldata envelope) external {
        (bytes32 id, uint8 kind) = object(which);
        bytes memory content = envelope.length > 512 ? envelope[:512] : envelope;
        uint48 last = registry.getObject(kind, id).generation;
        if (!_do(writer(who, id), 0, _applying(kind, id, how, content))) return;
        envelopeOf[id] = keccak256(content);
        if (registry.getObject(kind, id).generation != last + 1) wentBack = true;
    }

    /// @dev Sometimes with a generation that is not so, sometimes with finalizers.
    function _applying(uint8 kind, bytes32 id, uint256 how, bytes memory content) private view returns (bytes memory) {
        Record memory r = registry.getObject(kind, id);
        uint48 expected = (r.owner == address(0) ? 0 : r.generation) + (how % 5 == 0 ? 1 : 0);
        uint16 finalizers = how % 8 < 6 ? 0 : uint16(how / 8 % 4);
        return abi.encodeCall(registry.applyObject, (kind, id, expected, content, finalizers));
    }

    function deleteObject(uint256 who, uint256 which) external {
        (bytes32 id, uint8 kind) = object(which);
        _do(writer(who, id), 0, abi.encodeCall(registry.deleteObject, (kind, id, registry.getObject(kind, id).generation)));
    }

    function removeFinalizer(uint256 who, uint256 which, uint16 mask) external {
        (bytes32 id, uint8 kind) = object(which);
        _do(writer(who, id), 0, abi.encodeCall(registry.removeFinalizer, (kind, id, mask)));
    }

    /// @dev Deleted and made again by its owner in one go: separate calls seldom meet.
    function makeAgain(uint256 which, bytes calldata envelope) external {
        this.deleteObject(1, which);
        this.applyObject(1, which, 1, envelope);
    }

    function setAccess(uint256 who, uint256 which, uint256 whom, uint8 rights) external {
        (bytes32 id,) = object(which);
        _do(account(who), 0, abi.encodeCall(extension.setAccess, (bytes16(id), account(whom), rights % 8)));
    }

    function setNamespaceOwner(uint256 who, uint256 which, uint256 whom) external {
        (bytes32 id,) = object(which);
        _do(account(who), 0, abi.encodeCall(extension.setNamespaceOwner, (bytes16(id), account(whom))));
    }

    function join(uint256 who, uint256 which) external {
        bytes memory call = abi.encodeCall(registry.registerNodeWithProof, (peer(which), account(who), new bytes(64)));
        if (_do(account(who), 0, call)) _do(admin, 0, abi.encodeCall(registry.approveNode, (peer(which))));
    }

    function setStatus(uint256 who, uint256 which, uint8 status) external {
        bool byOwner = who % 4 != 0;
        address from = byOwner ? registry.getNode(peer(which)).operator : account(who);
        _do(from, 0, abi.encodeCall(registry.setNodeStatus, (peer(which), NodeStatus(status % 6))));
    }

    function removeNode(uint256 which) external {
        _do(admin, 0, abi.encodeCall(registry.removeNode, (peer(which))));
    }

    function stake(uint256 who, uint256 which, uint64 amount) external {
        address from = account(who);
        VM.deal(from, amount);
        if (_do(from, amount, abi.encodeCall(extension.stake, (peer(which))))) received += amount;
    }

    function slash(uint256 which, uint64 amount) external {
        _do(admin, 0, abi.encodeCall(extension.slash, (peer(which), amount, "reason")));
    }

    function payPool(uint256 whom, uint64 amount) external {
        uint256 pool = extension.slashedPool();
        _do(admin, 0, abi.encodeCall(extension.payPool, (account(whom), pool == 0 ? 0 : amount % (pool + 1))));
    }

    function withdraw(uint256 who) external {
        address to = address(0xFFFF);
        uint256 before = to.balance;
        _do(account(who), 0, abi.encodeCall(extension.withdraw, (payable(to))));
        returned += to.balance - before;
    }

    function setTerms(uint64 minStake, uint32 period) external {
        StakeTerms memory terms = StakeTerms(minStake % 1000, 10, period % 1000, period % 100);
        _do(admin, 0, abi.encodeCall(extension.setStakeTerms, (terms)));
    }

    function append(uint256 who, uint8 shard, bool stale) external {
        shard %= 16;
        uint64 seq = registry.placementSequence(shard) + (stale ? 2 : 1);
        if (_do(account(who), 0, abi.encodeCall(registry.appendPlacements, (shard, seq, "root", 1, "data")))) {
            appended[shard] += 1;
        }
    }

    function dispute(uint256 who, uint256 which, uint8 note, uint64 bond) external {
        bytes32 subject = bytes32(uint256(note % 3 + 1));
        _do(account(who), 0, abi.encodeCall(registry.anchorDeployment, (subject)));
        address from = account(who);
        VM.deal(from, bond);
        bytes memory call = abi.encodeCall(extension.disputeDeployment, (subject, peer(which), "evidence"));
        if (_do(from, bond, call)) {
            received += bond;
            disputes.push(extension.disputeId(subject, peer(which)));
        }
    }

    function resolve(uint256 which, bool upheld, uint64 cut) external {
        if (disputes.length == 0) return;
        bytes32 id = disputes[which % disputes.length];
        _do(admin, 0, abi.encodeCall(extension.resolveDispute, (id, upheld, cut, "reasons")));
    }

    function lapse(uint256 which) external {
        if (disputes.length == 0) return;
        _do(account(which), 0, abi.encodeCall(extension.lapseDispute, (disputes[which % disputes.length])));
    }

    function publishEpoch() external {
        EpochParts memory parts = EpochParts("key", "evaluation", "circuits", "committee", 3, 2);
        if (lastEpoch >= 12) return;
        if (_do(admin, 0, abi.encodeCall(extension.publishEpoch, (lastEpoch + 1, "digest", parts)))) lastEpoch += 1;
    }

    function activateEpoch(uint64 which) external {
        _do(admin, 0, abi.encodeCall(extension.activateEpoch, (which % 12 + 1)));
    }

    function retireEpoch(uint64 which) external {
        _do(admin, 0, abi.encodeCall(extension.retireEpoch, (which % 12 + 1)));
    }

    function setLimits(uint32 limit, bool restricted) external {
        _do(admin, 0, abi.encodeCall(extension.setDecisionLimit, (bytes16(0), limit)));
        _do(admin, 0, abi.encodeCall(extension.setRestricted, (restricted && limit % 8 == 0)));
    }

    function setImages(bytes32 root, bytes calldata policy) external {
        _do(admin, 0, abi.encodeCall(extension.setImageRoot, (root, "list")));
        _do(admin, 0, abi.encodeCall(registry.setClusterPolicy, (policy)));
    }

    function setRole(uint256 whom, uint8 which, bool held) external {
        bytes32 role = which % 3 == 0 ? registry.REQUESTER() : bytes32(uint256(which % 3));
        address to = account(whom);
        _free(held ? abi.encodeCall(registry.grantRole, (role, to)) : abi.encodeCall(registry.revokeRole, (role, to)));
        if (which % 8 == 0) _free(abi.encodeCall(registry.setRoleAdmin, (role, bytes32(uint256(which)))));
        if (which % 8 == 0) _free(abi.encodeCall(registry.setRoleAdmin, (role, 0)));
    }

    function pass(uint16 time) external {
        VM.warp(block.timestamp + time);
    }

    /// @dev Rarely paused, and not for long, so that things happen.
    function pause(uint8 chance) external {
        if (registry.paused()) _free(abi.encodeCall(registry.unpause, ()));
        else if (chance % 4 == 0) _free(abi.encodeCall(registry.pause, ()));
    }

    // how it is done and watched

    function _do(address from, uint256 value, bytes memory call) private returns (bool done) {
        bool paused = registry.paused();
        VM.prank(from);
        (done,) = address(registry).call{value: value}(call);
        if (value != 0 && !done) VM.deal(from, 0);
        if (done && paused) slipped += 1;
        _watch();
    }

    /// @dev What an administrator may do at any time, paused or not.
    function _free(bytes memory call) private {
        VM.prank(admin);
        (bool done,) = address(registry).call(call);
        require(done, "an administrator may");
        _watch();
    }

    /// @dev Fold what was logged, as HeadChain.sol says.
    function _watch() private {
        Vm.Log[] memory logs = VM.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            bytes32[] memory t = logs[i].topics;
            if (logs[i].emitter != address(registry)) continue;
            if (_foreign(t[0])) untold += 1;
            if (_tellsTheSame(t[0])) untold -= 1;
            if (t.length != 4 || _foreign(t[0])) continue;
            rv += 1;
            if (uint256(t[1]) != rv) gap = true;
            acc = bytes24(keccak256(abi.encode(acc, rv, t[0], t[2], t[3], keccak256(logs[i].data))));
        }
        _watchGenerations();
    }

    function _foreign(bytes32 topic) private pure returns (bool) {
        return topic == IAccessControl.RoleGranted.selector || topic == IAccessControl.RoleRevoked.selector
            || topic == IAccessControl.RoleAdminChanged.selector || topic == PausableUpgradeable.Paused.selector
            || topic == PausableUpgradeable.Unpaused.selector;
    }

    function _tellsTheSame(bytes32 topic) private pure returns (bool) {
        return topic == VeilRegistry.RoleChanged.selector || topic == VeilRegistry.RoleAdminSet.selector
            || topic == VeilRegistry.PauseChanged.selector;
    }

    function _watchGenerations() private {
        for (uint256 name = 0; name < 2 * NAMES; ++name) {
            (bytes32 id, uint8 kind) = object(name);
            uint48 generation = registry.getObject(kind, id).generation;
            if (generation < generationOf[id] || generation > generationOf[id] + 1) wentBack = true;
            generationOf[id] = generation;
        }
    }
}
