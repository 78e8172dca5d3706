// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Access} from "../src/Access.sol";
import {Disputes} from "../src/Disputes.sol";
import {Epochs} from "../src/Epochs.sol";
import {Membership} from "../src/Membership.sol";
import {Namespaces} from "../src/Namespaces.sol";
import {Nodes} from "../src/Nodes.sol";
import {Objects} from "../src/Objects.sol";
import {Stakes} from "../src/Stakes.sol";
import {DisputeStatus, EpochParts, NodeStatus, StakeTerms} from "../src/Storage.sol";
import {Fixture, VM} from "./Fixture.sol";

/// @dev Single functions, with any arguments.
contract RegistryTest is Fixture {
    address private constant OWNER = address(0x0E);
    address private constant OTHER = address(0x07);
    bytes32 private constant PEER = bytes32("peer");

    function setUp() public {
        VM.warp(1_000_000);
        deploy(ADMIN);
        VM.prank(OWNER);
        registry.applyObject(1, SPACE_ID, 0, "space", 0);
        VM.deal(OTHER, 1e30);
    }

    // objects

    function testFuzz_a_stale_generation_is_refused(uint256 name, uint48 expected, bytes calldata envelope) public {
        VM.assume(expected != 0 && uint128(name) != 0 && envelope.length <= 512);
        bytes32 id = idOf(name);
        VM.prank(OWNER);
        VM.expectRevert(abi.encodeWithSelector(Objects.StaleGeneration.selector, id, expected, 0));
        registry.applyObject(2, id, expected, envelope, 0);
    }

    function testFuzz_generations_count_up_over_deletes(uint256 name, uint8 steps, uint256 deletes) public {
        VM.assume(uint128(name) != 0);
        bytes32 id = idOf(name);
        uint48 live = 0;
        uint48 last = 0;
        VM.startPrank(OWNER);
        for (uint256 i = 0; i < steps % 32; ++i) {
            if (live != 0 && deletes >> i & 1 == 1) {
                registry.deleteObject(2, id, live);
                live = 0;
            } else {
                live = registry.applyObject(2, id, live, abi.encode(i), 0);
                assert(live == last + 1);
                last = live;
            }
        }
        VM.stopPrank();
    }

    function testFuzz_only_kinds_of_the_generic_path_are_taken(uint8 kind, uint256 name) public {
        VM.assume((kind == 0 || kind > 6) && uint128(name) != 0);
        bytes4 refusal = kind != 0 && kind <= 9 ? Objects.KindHasOwnFunctions.selector : Objects.UnknownKind.selector;
        VM.prank(OWNER);
        VM.expectRevert(abi.encodeWithSelector(refusal, kind));
        registry.applyObject(kind, idOf(name), 0, "x", 0);
    }

    function testFuzz_a_long_envelope_is_refused(bytes calldata start) public {
        bytes memory envelope = bytes.concat(start, new bytes(513));
        VM.prank(OWNER);
        VM.expectPartialRevert(Membership.TooMuch.selector);
        registry.applyObject(2, idOf(1), 0, envelope, 0);
    }

    function testFuzz_rights_are_what_they_say(address account, uint8 rights, uint8 kind) public {
        kind = 2 + kind % 5;
        VM.assume(account != OWNER && account != address(0));
        VM.prank(OWNER);
        if (rights > 7) VM.expectRevert(abi.encodeWithSelector(Access.UnknownRights.selector, rights));
        extension.setAccess(SPACE, account, rights);
        bool may = rights <= 7 && rights & 1 == 1 && (kind == 5 || rights & 4 == 4);
        VM.prank(account);
        if (!may) VM.expectRevert(abi.encodeWithSelector(Namespaces.NotWriter.selector, SPACE, account));
        registry.applyObject(kind, idOf(1), 0, "x", 0);
        assert(extension.rightsOf(SPACE, account) == (rights > 7 ? 0 : rights));
    }

    function testFuzz_a_role_owns_a_namespace_together(bytes32 role, address first, address second) public {
        VM.assume(role != 0 && first != second && first != OWNER && second != OWNER && first != ADMIN && second != ADMIN);
        VM.assume(first != address(registry) && second != address(registry));
        VM.prank(OWNER);
        extension.setNamespaceOwnerRole(SPACE, role);
        VM.prank(ADMIN);
        registry.grantRole(role, first);
        VM.prank(first);
        registry.applyObject(2, idOf(1), 0, "x", 0);
        VM.prank(second);
        VM.expectRevert(abi.encodeWithSelector(Namespaces.NotWriter.selector, SPACE, second));
        registry.applyObject(2, idOf(1), 1, "y", 0);
        VM.prank(OWNER);
        VM.expectRevert(abi.encodeWithSelector(Namespaces.NotWriter.selector, SPACE, OWNER));
        extension.setAccess(SPACE, second, 1);
        VM.prank(ADMIN);
        registry.revokeRole(role, first);
        VM.prank(first);
        VM.expectRevert(abi.encodeWithSelector(Namespaces.NotWriter.selector, SPACE, first));
        registry.applyObject(2, idOf(1), 1, "y", 0);
    }

    function test_namespaces_can_be_restricted() public {
        VM.prank(ADMIN);
        extension.setRestricted(true);
        VM.prank(OTHER);
        VM.expectRevert(abi.encodeWithSelector(Objects.NotRequester.selector, OTHER));
        registry.applyObject(1, bytes32(bytes16(uint128(9))), 0, "x", 0);
        VM.prank(OWNER);
        registry.applyObject(2, idOf(1), 0, "those that are there go on", 0);
        bytes32 requester = registry.REQUESTER();
        VM.prank(ADMIN);
        registry.grantRole(requester, OTHER);
        VM.prank(OTHER);
        registry.applyObject(1, bytes32(bytes16(uint128(9))), 0, "x", 0);
    }

    function test_limits_of_decisions() public {
        VM.startPrank(ADMIN);
        extension.setDecisionLimit(0, 100);
        assert(extension.decisionLimit(SPACE) == 100);
        extension.setDecisionLimit(SPACE, 7);
        assert(extension.decisionLimit(SPACE) == 7);
        VM.stopPrank();
    }

    function test_home_peers_go_with_their_namespace() public {
        bytes32[] memory peers = new bytes32[](1);
        peers[0] = PEER;
        VM.prank(OTHER);
        registry.registerNode(PEER, OTHER);
        VM.startPrank(OWNER);
        extension.setHomePeers(SPACE, peers);
        registry.deleteObject(1, SPACE_ID, 1);
        VM.stopPrank();
        VM.prank(OTHER);
        registry.applyObject(1, SPACE_ID, 0, "of another owner", 0);
        assert(extension.homePeersDigest(SPACE) == 0);
    }

    function testFuzz_home_peers_are_nodes(uint8 count) public {
        bytes32[] memory peers = new bytes32[](count % 6);
        for (uint256 i = 0; i < peers.length; ++i) {
            peers[i] = bytes32(i + 1);
            VM.prank(OTHER);
            registry.registerNode(peers[i], OTHER);
        }
        VM.prank(OWNER);
        if (peers.length > 3) VM.expectPartialRevert(Membership.TooMuch.selector);
        extension.setHomePeers(SPACE, peers);
        if (peers.length <= 3) assert(extension.homePeersDigest(SPACE) == keccak256(abi.encode(peers)));
        VM.prank(OWNER);
        bytes32[] memory unknown = new bytes32[](1);
        unknown[0] = "nobody";
        VM.expectRevert(abi.encodeWithSelector(Membership.UnknownNode.selector, unknown[0]));
        extension.setHomePeers(SPACE, unknown);
    }

    // nodes and stakes

    function testFuzz_a_stake_comes_back_after_unbonding(uint128 amount, uint32 wait) public {
        VM.assume(amount != 0 && amount < 1e29);
        join(PEER, OTHER);
        VM.startPrank(OTHER);
        extension.stake{value: amount}(PEER);
        registry.setNodeStatus(PEER, NodeStatus.Leaving);
        VM.warp(block.timestamp + wait);
        if (wait < 7 days) {
            VM.expectPartialRevert(Membership.StillBonded.selector);
            registry.setNodeStatus(PEER, NodeStatus.Gone);
        } else {
            registry.setNodeStatus(PEER, NodeStatus.Gone);
            assert(extension.creditOf(OTHER) == amount);
            uint256 before = address(0x99).balance;
            extension.withdraw(payable(address(0x99)));
            assert(address(0x99).balance == before + amount);
            VM.expectRevert(abi.encodeWithSelector(Stakes.NothingToWithdraw.selector, OTHER));
            extension.withdraw(payable(address(0x99)));
        }
        VM.stopPrank();
    }

    function testFuzz_the_minimum_stake_is_needed_to_be_active(uint128 needed, uint128 given) public {
        VM.assume(given != 0 && given < 1e29);
        VM.prank(ADMIN);
        extension.setStakeTerms(StakeTerms(needed, 0, 1, 1));
        VM.startPrank(OTHER);
        registry.registerNodeWithProof(PEER, OTHER, new bytes(64));
        extension.stake{value: given}(PEER);
        VM.stopPrank();
        VM.prank(ADMIN);
        if (given < needed) VM.expectRevert(abi.encodeWithSelector(Membership.StakeTooLow.selector, PEER, given, needed));
        registry.approveNode(PEER);
    }

    function testFuzz_slashing_takes_at_most_the_stake(uint128 amount, uint128 cut) public {
        VM.assume(amount != 0 && amount < 1e29 && cut != 0);
        join(PEER, OTHER);
        VM.prank(OTHER);
        extension.stake{value: amount}(PEER);
        VM.startPrank(ADMIN);
        extension.setStakeTerms(StakeTerms(amount, 0, 1, 1));
        extension.slash(PEER, cut, "reason");
        uint128 taken = cut < amount ? cut : amount;
        assert(extension.slashedPool() == taken && extension.stakeOf(PEER).amount == amount - taken);
        assert(registry.getNode(PEER).status == NodeStatus.Cordoned);
        VM.expectRevert(abi.encodeWithSelector(Stakes.PoolTooSmall.selector, uint256(taken) + 1, taken));
        extension.payPool(OWNER, uint256(taken) + 1);
        extension.payPool(OWNER, taken);
        assert(extension.slashedPool() == 0 && extension.creditOf(OWNER) == taken);
        VM.stopPrank();
    }

    function test_an_administrator_cannot_take_a_stake() public {
        join(PEER, OTHER);
        VM.prank(OTHER);
        extension.stake{value: 5}(PEER);
        VM.startPrank(ADMIN);
        registry.removeNode(PEER);
        assert(registry.getNode(PEER).status == NodeStatus.Leaving);
        VM.expectPartialRevert(Membership.StillBonded.selector);
        registry.removeNode(PEER);
        VM.warp(block.timestamp + 7 days);
        registry.removeNode(PEER);
        VM.stopPrank();
        assert(extension.creditOf(OTHER) == 5);
    }

    function test_plain_ether_is_refused() public {
        VM.prank(OTHER);
        (bool taken,) = address(registry).call{value: 1}("");
        assert(!taken);
        VM.prank(OTHER);
        (taken,) = address(registry).call{value: 1}(abi.encodeWithSignature("head()"));
        assert(!taken);
    }

    function test_the_extension_alone_does_nothing() public {
        address alone = registry.extension();
        VM.prank(OTHER);
        (bool taken,) = alone.call{value: 1}(abi.encodeWithSignature("stake(bytes32)", PEER));
        assert(!taken);
        VM.prank(ADMIN);
        (taken,) = alone.call(abi.encodeWithSignature("setRestricted(bool)", true));
        assert(!taken);
    }

    // down marks

    function testFuzz_a_mark_is_of_an_incarnation_in_reach(uint32 time, uint64 incarnation, uint64 back) public {
        VM.warp(time);
        uint256 limit = block.timestamp + 1 days;
        incarnation = uint64(incarnation % (2 * limit));
        back = uint64(back % (2 * limit));
        join(PEER, VM.addr(1));
        join("other", VM.addr(2));
        bool taken = _mayFollow(incarnation, 0, limit);
        registry.markDown(PEER, incarnation, _signed(incarnation, 1, 2));
        assert(registry.getNode(PEER).down == taken && registry.getNode(PEER).floor == (taken ? incarnation : 0));
        if (!taken) return;
        VM.prank(VM.addr(1));
        taken = _mayFollow(back, incarnation, limit);
        registry.markUp(PEER, back);
        assert(registry.getNode(PEER).down != taken && registry.getNode(PEER).floor == (taken ? back - 1 : incarnation));
    }

    function test_a_mark_by_strangers_or_by_one_twice_is_refused() public {
        VM.warp(1000);
        join(PEER, VM.addr(1));
        join("other", VM.addr(2));
        VM.expectRevert(abi.encodeWithSelector(Membership.NotMember.selector, VM.addr(3)));
        registry.markDown(PEER, 7, _signed(7, 3, 3));
        VM.expectPartialRevert(Nodes.SignersNotAscending.selector);
        registry.markDown(PEER, 7, _signed(7, 1, 1));
        try registry.markDown(PEER, 8, _signed(7, 1, 2)) {
            assert(false);
        } catch {}
        VM.expectRevert(abi.encodeWithSelector(Nodes.TooFewSigners.selector, 0, 2));
        registry.markDown(PEER, 7, new bytes[](0));
        registry.markDown(PEER, 7, _signed(7, 1, 2));
        VM.expectRevert(abi.encodeWithSelector(Membership.NotOperator.selector, PEER, VM.addr(2)));
        VM.prank(VM.addr(2));
        registry.markUp(PEER, 8);
    }

    /// @dev Expects the revert that `incarnation` after `floor` deserves, if it does.
    function _mayFollow(uint64 incarnation, uint64 floor, uint256 limit) private returns (bool) {
        if (incarnation <= floor) {
            VM.expectRevert(abi.encodeWithSelector(Nodes.StaleIncarnation.selector, PEER, incarnation, floor));
        } else if (incarnation > limit) {
            VM.expectRevert(abi.encodeWithSelector(Membership.TooMuch.selector, bytes32("incarnation"), incarnation, limit));
        }
        return incarnation > floor && incarnation <= limit;
    }

    /// @dev By two accounts, in the order that is wanted.
    function _signed(uint64 incarnation, uint256 one, uint256 other) private view returns (bytes[] memory found) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Veil"),
                keccak256("1"),
                block.chainid,
                address(registry)
            )
        );
        bytes32 accusation = keccak256(abi.encode(keccak256("MarkDown(bytes32 peerID,uint64 incarnation)"), PEER, incarnation));
        bytes32 digest = keccak256(abi.encodePacked(bytes2(0x1901), domain, accusation));
        if (VM.addr(one) > VM.addr(other)) (one, other) = (other, one);
        found = new bytes[](2);
        found[0] = _by(one, digest);
        found[1] = _by(other, digest);
    }

    function _by(uint256 key, bytes32 digest) private pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    // disputes

    function testFuzz_leaves_can_be_disputed_and_nothing_else(bytes32 leaf, bytes32 sibling, bytes32 other) public {
        VM.assume(leaf != other && sibling != other && leaf != sibling);
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = sibling;
        bytes32 root = MerkleProof.processProof(proof, leaf);
        join(PEER, OTHER);
        VM.startPrank(OTHER);
        registry.appendPlacements(3, 1, root, 2, "data");
        VM.expectRevert(abi.encodeWithSelector(Disputes.NotInLog.selector, 3, 1, other));
        extension.disputePlacement{value: 0.01 ether}(3, 1, other, proof, PEER, "evidence");
        VM.expectRevert(abi.encodeWithSelector(Disputes.NotInLog.selector, 3, 2, leaf));
        extension.disputePlacement{value: 0.01 ether}(3, 2, leaf, proof, PEER, "evidence");
        VM.expectRevert(abi.encodeWithSelector(Disputes.BondTooLow.selector, 1, 0.01 ether));
        extension.disputePlacement{value: 1}(3, 1, leaf, proof, PEER, "evidence");
        bytes32 id = extension.disputePlacement{value: 0.01 ether}(3, 1, leaf, proof, PEER, "evidence");
        assert(id == extension.disputeId(keccak256(abi.encode(uint8(3), uint64(1), leaf)), PEER));
        VM.expectRevert(abi.encodeWithSelector(Disputes.WrongDisputeStatus.selector, id, DisputeStatus.Open));
        extension.disputePlacement{value: 0.01 ether}(3, 1, leaf, proof, PEER, "evidence");
        VM.stopPrank();
    }

    function testFuzz_an_append_is_disputed_as_a_whole(bytes32 root, uint8 shard, uint64 other, bytes32 leaf) public {
        VM.assume(root != 0 && other != 1);
        shard %= 16;
        join(PEER, OTHER);
        VM.startPrank(OTHER);
        registry.appendPlacements(shard, 1, root, 2, "data");
        VM.expectRevert(abi.encodeWithSelector(Disputes.NotAppended.selector, shard, other));
        extension.disputeAppend{value: 0.01 ether}(shard, other, PEER, "evidence");
        VM.expectRevert(abi.encodeWithSelector(Disputes.BondTooLow.selector, 1, 0.01 ether));
        extension.disputeAppend{value: 1}(shard, 1, PEER, "evidence");
        VM.expectRevert(abi.encodeWithSelector(Membership.ZeroValue.selector, bytes32("evidence")));
        extension.disputeAppend{value: 0.01 ether}(shard, 1, PEER, 0);
        bytes32 id = extension.disputeAppend{value: 0.01 ether}(shard, 1, PEER, "evidence");
        assert(id == extension.disputeId(keccak256(abi.encode(shard, uint64(1))), PEER));
        assert(id != extension.disputeId(keccak256(abi.encode(shard, uint64(1), leaf)), PEER));
        VM.stopPrank();
        VM.prank(ADMIN);
        extension.resolveDispute(id, true, 0, "reasons");
        assert(extension.creditOf(OTHER) == 0.01 ether && extension.stakeOf(PEER).disputes == 0);
        VM.prank(OTHER);
        VM.expectRevert(abi.encodeWithSelector(Disputes.WrongDisputeStatus.selector, id, DisputeStatus.Upheld));
        extension.disputeAppend{value: 0.01 ether}(shard, 1, PEER, "evidence");
    }

    function testFuzz_a_dispute_is_decided_or_lapses(uint128 bond, uint128 stake, uint128 cut, bool upheld, uint32 wait) public {
        VM.assume(bond >= 0.01 ether && bond < 1e29 && stake != 0 && stake < 1e29);
        join(PEER, OTHER);
        VM.prank(OTHER);
        extension.stake{value: stake}(PEER);
        VM.prank(OTHER);
        registry.anchorDeployment("note");
        VM.deal(OWNER, bond);
        VM.prank(OWNER);
        bytes32 id = extension.disputeDeployment{value: bond}("note", PEER, "evidence");
        VM.prank(OTHER);
        registry.setNodeStatus(PEER, NodeStatus.Leaving);
        VM.warp(block.timestamp + 365 days);
        VM.prank(OTHER);
        VM.expectPartialRevert(Membership.StillBonded.selector);
        registry.setNodeStatus(PEER, NodeStatus.Gone);
        VM.warp(block.timestamp - 365 days + wait);
        if (wait > 3 days && cut % 2 == 0) {
            extension.lapseDispute(id);
            assert(extension.creditOf(OWNER) == bond && extension.getDispute(id).status == DisputeStatus.Lapsed);
        } else {
            if (wait <= 3 days) {
                VM.expectPartialRevert(Disputes.NotLapsed.selector);
                extension.lapseDispute(id);
            }
            VM.prank(ADMIN);
            extension.resolveDispute(id, upheld, cut, "reasons");
            uint128 taken = upheld ? (cut < stake ? cut : stake) : 0;
            assert(extension.stakeOf(PEER).amount == stake - taken);
            assert(extension.slashedPool() == uint256(taken) + (upheld ? 0 : bond));
            assert(extension.creditOf(OWNER) == (upheld ? bond : 0));
            VM.prank(ADMIN);
            VM.expectPartialRevert(Disputes.WrongDisputeStatus.selector);
            extension.resolveDispute(id, upheld, cut, "again");
        }
        assert(extension.stakeOf(PEER).disputes == 0);
    }

    // key epochs and images

    function testFuzz_epochs_need_all_their_parts(uint8 missing, uint16 size, uint16 threshold) public {
        EpochParts memory p = parts();
        (p.size, p.threshold) = (size, threshold);
        if (missing == 0) p.publicKey = 0;
        if (missing == 1) p.evaluationKeys = 0;
        if (missing == 2) p.circuits = 0;
        if (missing == 3) p.committee = 0;
        bool good = missing > 3 && size <= 64 && threshold != 0 && threshold <= size;
        VM.prank(ADMIN);
        (bool done,) = address(registry).call(abi.encodeCall(Epochs.publishEpoch, (1, "digest", p)));
        assert(done == good);
    }

    function testFuzz_images_are_allowed_by_proof(bytes32 image, bytes32 sibling, bytes32 other) public {
        VM.assume(image != other && sibling != other);
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = _leaf(sibling);
        assert(extension.isImageAllowed(other, proof));
        bytes32 root = MerkleProof.processProof(proof, _leaf(image));
        VM.prank(ADMIN);
        extension.setImageRoot(root, "list");
        assert(extension.isImageAllowed(image, proof) && !extension.isImageAllowed(other, proof));
        VM.prank(ADMIN);
        extension.commitImage("app", image);
        assert(extension.imageManifest("app") == image);
    }

    function _leaf(bytes32 manifest) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(manifest))));
    }
}
